"""torch.nn's recurrent modules, faster on CPU, right on ragged batches, and open to the eye.

``RNN``, ``GRU``, ``LSTM`` and their single-step cells take torch.nn's arguments and hold its parameters;
``convert(model)`` puts them into a model that exists.
"""

from throughtime.nn import init as init
from throughtime.nn._cells import GRUCell as GRUCell, LSTMCell as LSTMCell, RNNCell as RNNCell
from throughtime.nn._convert import convert as convert, revert as revert
from throughtime.nn._modules import GRU as GRU, LSTM as LSTM, RNN as RNN
from throughtime.nn._recurrent import backend as backend
