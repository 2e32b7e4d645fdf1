"""Files that survive: written whole or not at all, checked when read, and nothing but data in them."""

from throughtime.store.checkpoints import Checkpoints as Checkpoints
from throughtime.store.files import (
    absent as absent,
    check_fields as check_fields,
    checksum as checksum,
    read_json as read_json,
    write_bytes as write_bytes,
    write_json as write_json,
)
from throughtime.store.run import FORMAT_VERSION as FORMAT_VERSION, RunDirectory as RunDirectory, is_run as is_run
from throughtime.store.tensors import load_tensors as load_tensors, save_tensors as save_tensors
