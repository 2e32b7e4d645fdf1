"""What turns raw input into numbers and back: fitted on the training part only, written as JSON, without torch."""

from throughtime.transforms.bpe import BytePairs as BytePairs
from throughtime.transforms.labels import Labels as Labels, natural as natural
from throughtime.transforms.scaler import Scaler as Scaler
from throughtime.transforms.sound import LogMel as LogMel
from throughtime.transforms.vocabulary import Characters as Characters, Vocabulary as Vocabulary
from throughtime.transforms.words import WordFeatures as WordFeatures, shape as shape, words as words
