"""What the doctor's facts mean: facts in, findings out, no I/O.

machine · dns · reachability · cas · backends · document_roots    one for each probe
"""
