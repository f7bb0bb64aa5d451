"""How much a template may cost. Far above what any mail needs, far below what hurts the process."""

SOURCE = 200_000  # characters of one part or partial
TAG = 1_000  # characters inside one tag; the grammar takes about 60 microseconds for each
BLOCKS = 20  # blocks inside blocks
LEVELS = 60  # blocks inside blocks, each `else if` counted as one more
BRACKETS = 8  # sub-expressions inside sub-expressions
NODES = 20_000  # texts and tags of one message, partials included
COMPILE_SECONDS = 1.0
STEPS = 500_000  # texts and tags rendered for one message
OUTPUT = 2_000_000  # characters rendered for one message
PARTIALS = 20  # partials inside partials
RENDER_SECONDS = 2.0
HTML_DEPTH = 200  # elements inside elements; the CSS inliner falls over at about 12,000
