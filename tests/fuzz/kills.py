KILLED = {}
