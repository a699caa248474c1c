"""What `tailrace demo` shows: a whole loop on real data with late labels and a drift, from feeder to books.

`script` says what happens, `feeder` sends it, `watch` reads predictions back as a consumer would, `screen` shows, and
`summary` tells at the end. `place` is the folder it all lives in, `kafka` a broker of its own, `runner` plays it.
"""
