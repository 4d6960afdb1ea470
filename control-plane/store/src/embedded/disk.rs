//! The file of the embedded store: the newest value of every key, in redb. History is not kept on disk.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use bytes::Bytes;
use redb::{Builder, Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition};

use super::index::Index;
use crate::StoreError;

/// Key → 8 bytes of revision (big-endian), then the value.
const OBJECTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("objects");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const META_FORMAT: &str = "format";
const META_REVISION: &str = "revision";
/// The layout of the tables above.
const FORMAT: u64 = 1;
/// Bytes of revision before a value.
const REVISION_BYTES: usize = 8;
/// An empty store is at revision 1, as etcd's is: 0 means "none" in every API.
const FIRST_REVISION: u64 = 1;
/// Pages that redb keeps in memory. All reads are answered from the index, so this only serves the tree walk of writes.
const PAGE_CACHE_BYTES: usize = 16 * 1024 * 1024;

pub(crate) struct Disk {
    database: Database,
    /// How messages name the file.
    name: String,
}

/// The newest state of one key after a batch.
pub(crate) struct DiskWrite<'a> {
    pub(crate) key: &'a str,
    /// `None`: delete.
    pub(crate) value: Option<(u64, &'a Bytes)>,
}

impl Disk {
    /// Opens or makes the file and reads everything into an index.
    pub(crate) fn open(path: &Path) -> Result<(Self, Index), StoreError> {
        Self::guarded(&path.display().to_string(), |builder| builder.create(path))
    }

    /// The same over another backend than a file: tests make it fail.
    #[cfg(test)]
    pub(crate) fn open_backend(backend: impl redb::StorageBackend) -> Result<(Self, Index), StoreError> {
        Self::guarded("backend", |builder| builder.create_with_backend(backend))
    }

    /// redb panics on some damage that it does not foresee; here that is one more way to find a damaged file.
    fn guarded(
        name: &str,
        create: impl FnOnce(&Builder) -> Result<Database, DatabaseError>,
    ) -> Result<(Self, Index), StoreError> {
        let open = || {
            let mut builder = Builder::new();
            builder
                .set_cache_size(PAGE_CACHE_BYTES)
                .set_check_integrity_on_open(true);
            let database = create(&builder).map_err(|error| open_error(name, error))?;
            let disk = Self {
                database,
                name: name.to_owned(),
            };
            disk.prepare().map_err(|error| damaged(name, &error.to_string()))?;
            let index = disk.load()?;
            Ok((disk, index))
        };
        catch_unwind(AssertUnwindSafe(open)).unwrap_or_else(|_| Err(damaged(name, "its pages contradict each other")))
    }

    fn prepare(&self) -> Result<(), redb::Error> {
        let transaction = self.database.begin_write()?;
        {
            transaction.open_table(OBJECTS)?;
            let mut meta = transaction.open_table(META)?;
            if meta.get(META_FORMAT)?.is_none() {
                meta.insert(META_FORMAT, FORMAT)?;
                meta.insert(META_REVISION, FIRST_REVISION)?;
            }
        }
        transaction.commit()?;
        Ok(())
    }

    fn load(&self) -> Result<Index, StoreError> {
        let damaged_by = |error: redb::Error| damaged(&self.name, &error.to_string());
        let read = || -> Result<_, redb::Error> {
            let transaction = self.database.begin_read()?;
            Ok((transaction.open_table(META)?, transaction.open_table(OBJECTS)?))
        };
        let (meta, objects) = read().map_err(damaged_by)?;
        let number = |key| meta.get(key).map(|value| value.map(|value| value.value()));
        let format = number(META_FORMAT).map_err(|error| damaged_by(error.into()))?;
        if format != Some(FORMAT) {
            let why = format!(
                "{}: its format is {}, this version reads {FORMAT}; use the version that wrote it",
                self.name,
                format.map_or("missing".to_owned(), |format| format.to_string())
            );
            return Err(StoreError::Fatal { why });
        }
        let revision = number(META_REVISION).map_err(|error| damaged_by(error.into()))?;
        let revision = revision.ok_or_else(|| damaged(&self.name, "its revision is missing"))?;
        let mut index = Index::new(revision);
        for item in objects.iter().map_err(|error| damaged_by(error.into()))? {
            let (key, value) = item.map_err(|error| damaged_by(error.into()))?;
            let key = key.value();
            let (number, value) = value
                .value()
                .split_first_chunk::<REVISION_BYTES>()
                .map(|(number, value)| (u64::from_be_bytes(*number), Bytes::copy_from_slice(value)))
                .ok_or_else(|| damaged(&self.name, &format!("the value of {key} is cut short")))?;
            if number == 0 || number > revision {
                let what = format!("{key} is at revision {number}, the store at {revision}");
                return Err(damaged(&self.name, &what));
            }
            index.load(key, number, value);
        }
        Ok(index)
    }

    /// Makes the writes durable, with one sync. After an error nothing is known of them, and the file must not be written
    /// again in this process: a second sync may claim success for pages that the kernel has already dropped.
    pub(crate) fn commit<'a>(
        &self,
        revision: u64,
        writes: impl Iterator<Item = DiskWrite<'a>>,
    ) -> Result<(), StoreError> {
        let run = || -> Result<(), redb::Error> {
            let transaction = self.database.begin_write()?;
            {
                let mut objects = transaction.open_table(OBJECTS)?;
                for write in writes {
                    match write.value {
                        Some((revision, value)) => {
                            let mut room = objects.insert_reserve(write.key, REVISION_BYTES + value.len())?;
                            let (number, rest) = room.as_mut().split_at_mut(REVISION_BYTES);
                            number.copy_from_slice(&revision.to_be_bytes());
                            rest.copy_from_slice(value);
                        }
                        None => {
                            objects.remove(write.key)?;
                        }
                    }
                }
                transaction.open_table(META)?.insert(META_REVISION, revision)?;
            }
            transaction.commit()?;
            Ok(())
        };
        let why = match catch_unwind(AssertUnwindSafe(run)) {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "its pages contradict each other".to_owned(),
        };
        Err(StoreError::Fatal {
            why: format!(
                "writing {}: {why}; check the disk, then start again (acknowledged writes are kept)",
                self.name
            ),
        })
    }
}

fn damaged(name: &str, what: &str) -> StoreError {
    StoreError::Fatal {
        why: format!("{name} is damaged: {what}; move it aside and restore a backup (it is not repaired silently)"),
    }
}

fn open_error(name: &str, error: DatabaseError) -> StoreError {
    match error {
        DatabaseError::DatabaseAlreadyOpen => StoreError::Fatal {
            why: format!("{name} is in use by another process; stop it, or choose another --data-dir"),
        },
        DatabaseError::Storage(redb::StorageError::Io(error)) if error.kind() != std::io::ErrorKind::InvalidData => {
            StoreError::Fatal {
                why: format!("cannot open {name}: {error}"),
            }
        }
        error => damaged(name, &error.to_string()),
    }
}
