"""Models: from a text to a River object, and from a learned state to canonical bytes and back.

Bottom to top: symbols, canonical, allowed → codec_format, rules → encoding, decoding, expression → codec, digest,
catalog → spec. Others use `spec.ModelSpec`, `spec.lineage_of`, `codec.StateCodec` and `digest`.
"""
