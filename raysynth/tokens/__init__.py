"""Token ids: ragged rows, the ids that tasks use, vocabularies and span corruption."""
