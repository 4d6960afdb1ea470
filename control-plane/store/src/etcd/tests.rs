//! What only the etcd store promises.
