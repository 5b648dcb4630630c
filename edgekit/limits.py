"""Every limit on a file that somebody else wrote, each with its reason; SECURITY.md says what they promise."""

from __future__ import annotations

import os

# Files, before anything is parsed.
MOST_MODEL_BYTES = 2_000_000_000  # a protobuf message cannot be larger; external data counts in it, since bundles hold one file
MOST_DATA_BYTES = 4_000_000_000  # unpacked, of an .npz of samples: all of it is held in memory
MOST_TEXT_BYTES = 32_000_000  # of a manifest, recipe or table: the largest here has 40 kB; so many bytes of JSON take 320 MB and 3 s
MOST_TEXT_DEPTH = 64  # of JSON and TOML: the deepest here is 9; Python's own readers end at about 1000 with a RecursionError
MOST_SIGNATURE_BYTES = 8_000_000  # of a signature: 200 bytes a file of the bundle, as base64
MOST_KEY_BYTES = 20_000  # of a PEM file: the largest key of the kinds that are taken has 800
MOST_TOML_BYTES = 1_000_000  # the largest here has 6 kB; Python's reader takes time by the square of some things
MOST_ARCHIVE_MEMBERS = 20_000  # of a zip
MOST_ARCHIVE_RATIO = 1_100  # unpacked over packed: deflate cannot do more than 1032, so more is a lie about a size

# The fields of an ONNX file, counted on its bytes. A parsed field takes up to 50 times its bytes, so a file of 2 GB could fill 100 GB.
MOST_FIELDS = 2_000_000  # a chain of 20,000 nodes has 200,000 and is looked through in 0.1 s; the worst file takes 3 s
MOST_NESTING = 90  # messages in one another; protobuf itself stops at 100, and says so less clearly
MOST_NAME_CHARS = 2_000  # exporters write paths of modules, some 300 long; a name of 100 kB is there to fill logs
MOST_TEXT_CHARS = 1_000_000  # of a doc string, a value of the metadata or a text attribute

# What the fields say.
MOST_NODES = 500_000  # of all graphs together
MOST_GRAPH_DEPTH = 16  # graphs in the nodes of graphs: engines recurse into them on their stacks; the deepest seen has 4
MOST_EXPANDED_NODES = 2_000_000  # once every function is written out: 40 functions that call one another twice are 2^40 nodes
MOST_FUNCTION_DEPTH = 64  # functions that call functions
MOST_RANK = 64  # axes of a tensor; engines hold 8 to 32
MOST_INPUT_VALUES = 1 << 26  # of an input with fixed sizes: golden inputs are drawn and stored, half a gigabyte of doubles
OLDEST_OPSET = 1

# The process that runs it. EDGEKIT_UNTRUSTED_SECONDS and EDGEKIT_UNTRUSTED_MB say another limit for a slow or large model.
SECONDS = 120.0  # of one question (check, fold, open and run): a model of 100 MB takes seconds
QUESTIONS_OF_A_COMMAND = 5  # times SECONDS for a whole command on a bundle of a stranger: verify with its score, profile in five processes
START_SECONDS = 120.0  # until it answers at all: Python with its libraries, on a machine that is busy
CPU_SECONDS_EACH = 60  # processor seconds for each second, of all questions together: the kernel's own stop, should ours fail
MEMORY_BYTES = 4 << 30  # address space beyond four times the model: an engine holds it parsed, packed and optimised
MEMORY_SHARE = 0.8  # of the machine's memory, at most
LEAST_MEMORY_BYTES = 1 << 30  # Python with ONNX Runtime alone takes 0.3 GB of address space
MOST_ANSWER_BYTES = 1 << 28  # that it may send back of one call: golden answers are kept in the bundle
FILE_BYTES = 64 << 20  # that it may write beyond twice the model: what folding gives
THREADS = 4  # of the engine there: each reserves address space

# A device by ssh. What it says of a size is never believed: each of these is counted here, while it arrives.
DEVICE_ANSWER_BYTES = 4 << 20  # that one command may print, and as much to stderr; the longest honest answer (hashes of files) has some kB
DEVICE_STATE_BYTES = 16 << 20  # of a round of its small files: /proc/cpuinfo of 256 cores has 0.4 MB
DEVICE_STATE_FILES = 20_000  # of them in a round: a machine of 512 cores has some 12,000 in /sys/devices/system/cpu
DEVICE_STATE_ASKED = 2_000  # files and patterns that are asked for in a round, because of what was told before: some dozens on a board
DEVICE_LINE_BYTES = 64 << 10  # of a line of a script that is spoken with
DEVICE_TALK_BYTES = 64 << 10  # of all its lines, and 16 for each second that it may take: progress of a job, a line a second while another measures
DEVICE_NEWS = 1_000  # lines of progress of a job that are handed on to a terminal; an honest job tells a dozen
DEVICE_RESULT_BYTES = 1 << 28  # of all files of a result: 10 million samples of a model that takes microseconds
DEVICE_TEXT_BYTES = 64 << 20  # of its texts among them: JSON grows 10 times in memory
DEVICE_JSON_BYTES = 8 << 20  # of one document or line of JSON: a measurement with all its traces has 0.2 MB
DEVICE_READINGS = 200_000  # of sensors in a result: hours at the usual 50 ms
DEVICE_NUMBER = 1e15  # no time, count or size that a device tells is larger


def seconds() -> float:
    """The wall-clock limit of one question to the process that runs a stranger's model."""
    return _number("EDGEKIT_UNTRUSTED_SECONDS", SECONDS)


def memory_bytes(model_bytes: int) -> int:
    """The address space of that process for a model of this size."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    usual = min(MEMORY_BYTES + 4 * model_bytes, int(MEMORY_SHARE * total))
    return max(LEAST_MEMORY_BYTES, int(_number("EDGEKIT_UNTRUSTED_MB", usual / 1e6) * 1e6))


def _number(name: str, usual: float) -> float:
    try:
        said = float(os.environ.get(name, ""))
    except ValueError:
        return usual
    return said if 0 < said < 1e9 else usual
