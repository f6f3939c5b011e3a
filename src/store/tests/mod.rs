//! The store from outside its rooms: the core alone, then everything on a real RocksDB.

#[cfg(feature = "rocksdb")]
mod archive;
mod core;
#[cfg(feature = "rocksdb")]
mod cursor;
#[cfg(feature = "rocksdb")]
mod expiry;
#[cfg(feature = "rocksdb")]
mod node;
#[cfg(feature = "rocksdb")]
mod on_disk;
#[cfg(feature = "rocksdb")]
mod past;
#[cfg(feature = "rocksdb")]
mod refused;
#[cfg(feature = "rocksdb")]
mod running;
pub(in crate::store) mod world;
