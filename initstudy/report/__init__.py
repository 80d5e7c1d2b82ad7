def write(d): return d
def summary_table(r): return str(r)
