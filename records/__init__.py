"""Own data: tables, arrays, pictures and sound become the records that a model learns.

One reader for boards, fleets and the central baseline. The cores take bytes and give
arrays; `records/runtime/` opens files.
"""
