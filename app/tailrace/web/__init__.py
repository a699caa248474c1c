"""HTTP, and only here: reads what the process tells about itself and answers with it."""
