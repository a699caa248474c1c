"""What a running process tells about itself: Prometheus instruments and logs.

The word "metrics" is kept for model quality. Nothing here decides anything, and no feature, target or id ever
becomes a label, a number or a log field.
"""
