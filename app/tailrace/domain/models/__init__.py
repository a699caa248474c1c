"""Models: from a text to a River object, and from a learned state to canonical bytes and back.

Bottom to top: symbols, canonical, allowed, growth, families → codec_format, rules, repairs → encoding, decoding,
expression → codec, digest, catalog → spec.
Others use `spec.ModelSpec`, `spec.lineage_of`, `codec.StateCodec` and `digest`.
"""
