//! A content-addressed store: what jobs save, restored as it was.
