"""How fast the whole loop is, beside two rulers: bare River in memory, and a stock Faust loop on the same topics."""
