//! Operation: metrics, journal, admin listener, health, logging.
