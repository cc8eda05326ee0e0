"""What the doctor's facts mean: facts in, findings out, no I/O.

machine · dns · reachability · cas   one for each probe of that name
"""
