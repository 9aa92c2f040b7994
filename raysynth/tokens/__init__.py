"""Token ids: rows of ids, the ids that tasks use, vocabularies and span corruption."""
