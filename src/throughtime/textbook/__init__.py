"""The textbook's network: one sentence through it, with every number of forward, backward and update."""

from throughtime.textbook.explanation import Explanation as Explanation, Update as Update
from throughtime.textbook.network import Network as Network
from throughtime.textbook.updates import explain as explain
