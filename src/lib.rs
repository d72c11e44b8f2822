//! klamm: a Kafka-compatible broker.
