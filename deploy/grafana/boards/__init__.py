"""The five dashboards, in the order in which people should meet them."""

from boards import kafka, loop, model, overview, runtime

BOARDS = (loop.BOARD, overview.BOARD, kafka.BOARD, model.BOARD, runtime.BOARD)
