"""The Python interface, `import rescore`: what commands do, with lists in memory.

Every function takes lists as `rescore.NBest`, as dictionaries of the native format or as tuples
(`rescore.formats.in_memory.ListLike`), checks the types of its arguments in one line, and calls
the room that does the work. `lists`: in and out; `scoring`; `weights`; `experiments`.
"""
