//! The file of the buckets: a redb database, because it is durable, ordered, and whole after any crash.

use std::collections::HashMap;
use std::fs::File;

use redb::backends::FileBackend;
use redb::{Database, ReadableDatabase, ReadableTable, Table, TableDefinition, TableError, WriteTransaction};

use super::{Change, Entry, From, Job, Quota, Refusal};
use crate::limits;

/// (bucket, key) → 8 bytes of revision, little endian, and the value.
const ENTRIES: TableDefinition<(&str, &str), &[u8]> = TableDefinition::new("entries");
/// What quotas are held against, and the newest revision.
const TOTALS: TableDefinition<&str, u64> = TableDefinition::new("totals");
const REVISION_BYTES: usize = size_of::<u64>();

pub(super) struct Disk(Database);

fn failed(error: impl std::fmt::Display) -> Refusal {
    Refusal::Other(error.to_string())
}

#[derive(Clone, Copy)]
struct Totals {
    bytes: u64,
    keys: u64,
    revision: u64,
}

impl Totals {
    fn read(table: &Table<&str, u64>) -> Result<Self, redb::Error> {
        let value = |name| Ok::<_, redb::Error>(table.get(name)?.map_or(0, |found| found.value()));
        Ok(Self {
            bytes: value("bytes")?,
            keys: value("keys")?,
            revision: value("revision")?,
        })
    }

    fn write(self, table: &mut Table<&str, u64>) -> Result<(), redb::Error> {
        table.insert("bytes", self.bytes)?;
        table.insert("keys", self.keys)?;
        table.insert("revision", self.revision)?;
        Ok(())
    }

    /// Counts a key coming or going.
    fn count(&mut self, bucket: &str, key: &str, old: Option<usize>, new: Option<usize>) {
        let size = |value: Option<usize>| value.map_or(0, |value| (bucket.len() + key.len() + value) as u64);
        self.bytes = (self.bytes + size(new)).saturating_sub(size(old));
        self.keys = (self.keys + u64::from(new.is_some())).saturating_sub(u64::from(old.is_some()));
    }
}

fn entry(bytes: &[u8]) -> Entry {
    let (revision, value) = bytes.split_at(REVISION_BYTES.min(bytes.len()));
    Entry {
        revision: revision.try_into().map_or(0, u64::from_le_bytes),
        value: Some(value.to_vec()),
    }
}

impl Disk {
    /// Errors: another worker has the file, it is damaged, or the disk failed.
    pub(super) fn open(file: File) -> Result<Self, Refusal> {
        let backend = FileBackend::new(file).map_err(failed)?;
        let database = Database::builder()
            .set_cache_size(limits::BUCKETS_CACHE_BYTES)
            .create_with_backend(backend)
            .map_err(failed)?;
        Ok(Self(database))
    }

    pub(super) fn get(&self, bucket: &str, keys: &[String]) -> Result<Vec<Entry>, Refusal> {
        let transaction = self.0.begin_read().map_err(failed)?;
        let table = match transaction.open_table(ENTRIES) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(vec![Entry::default(); keys.len()]),
            Err(error) => return Err(failed(error)),
        };
        let mut bytes = 0;
        let mut found = Vec::with_capacity(keys.len());
        for key in keys {
            let value = table.get((bucket, key.as_str())).map_err(failed)?;
            let value = value.map(|value| entry(value.value())).unwrap_or_default();
            bytes += value.value.as_ref().map_or(0, Vec::len);
            if bytes > limits::READ_BYTES_MAX {
                return Err(Refusal::Other(format!(
                    "the values are over {} bytes together",
                    limits::READ_BYTES_MAX
                )));
            }
            found.push(value);
        }
        Ok(found)
    }

    pub(super) fn list(&self, bucket: &str, from: &From) -> Result<(Vec<String>, bool), Refusal> {
        let transaction = self.0.begin_read().map_err(failed)?;
        let table = match transaction.open_table(ENTRIES) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok((Vec::new(), false)),
            Err(error) => return Err(failed(error)),
        };
        let (start, skip) = match from {
            From::After(key) => (format!("{key}\0"), 0),
            From::Skip(count) => (String::new(), usize::try_from(*count).unwrap_or(usize::MAX)),
        };
        let mut keys = Vec::new();
        for item in table.range((bucket, start.as_str())..).map_err(failed)?.skip(skip) {
            let (key, _) = item.map_err(failed)?;
            let (of, key) = key.value();
            if of != bucket {
                break;
            }
            if keys.len() == limits::KEYS_PER_PAGE {
                return Ok((keys, true));
            }
            keys.push(key.to_owned());
        }
        Ok((keys, false))
    }

    /// Makes the changes of these jobs in one transaction; a job that is refused leaves nothing behind.
    pub(super) fn commit(&self, jobs: Vec<Job>) -> Vec<(Job, Result<i128, Refusal>)> {
        let attempt = || -> Result<Vec<Result<i128, Refusal>>, redb::Error> {
            let transaction = self.0.begin_write()?;
            let answers = jobs
                .iter()
                .map(|job| apply(&transaction, job))
                .collect::<Result<_, _>>()?;
            transaction.commit()?;
            Ok(answers)
        };
        let answers = attempt().unwrap_or_else(|error| vec![Err(failed(error)); jobs.len()]);
        jobs.into_iter().zip(answers).collect()
    }
}

/// Decides about one job, and only then writes. The outer error is the disk's.
fn apply(transaction: &WriteTransaction, job: &Job) -> Result<Result<i128, Refusal>, redb::Error> {
    let mut entries = transaction.open_table(ENTRIES)?;
    let mut totals_table = transaction.open_table(TOTALS)?;
    let before = Totals::read(&totals_table)?;
    let mut totals = before;
    totals.revision += 1;
    let bucket = job.bucket.as_str();
    // What keys will hold: a later change of a job sees the earlier ones.
    let mut planned: HashMap<&str, Entry> = HashMap::new();
    let mut sum = 0;
    for change in &job.changes {
        let key = change.key();
        let now = match planned.get(key) {
            Some(entry) => entry.clone(),
            None => entries
                .get((bucket, key))?
                .map(|found| entry(found.value()))
                .unwrap_or_default(),
        };
        let value = match change {
            Change::Set(_, value) => Some(value.clone()),
            Change::Delete(_) => None,
            Change::Swap(_, value, revision) if *revision == now.revision => Some(value.clone()),
            Change::Swap(..) => return Ok(Err(Refusal::Changed)),
            Change::Add { delta, bounds, .. } => match add(now.value.as_deref(), *delta, *bounds) {
                Ok(number) => {
                    sum = number;
                    Some(number.to_string().into_bytes())
                }
                Err(why) => return Ok(Err(Refusal::Other(why.to_owned()))),
            },
        };
        totals.count(
            bucket,
            key,
            now.value.as_ref().map(Vec::len),
            value.as_ref().map(Vec::len),
        );
        let revision = if value.is_some() { totals.revision } else { 0 };
        planned.insert(key, Entry { revision, value });
    }
    if let Some(refusal) = over(before, totals, job.quota) {
        return Ok(Err(refusal));
    }
    for (key, Entry { revision, value }) in planned {
        match value {
            Some(value) => {
                let stored = [&revision.to_le_bytes(), value.as_slice()].concat();
                entries.insert((bucket, key), stored.as_slice())?;
            }
            None => {
                entries.remove((bucket, key))?;
            }
        }
    }
    totals.write(&mut totals_table)?;
    Ok(Ok(sum))
}

/// A write that makes things smaller is let through even over the quota, so that a guest can get below it again.
fn over(before: Totals, after: Totals, quota: Quota) -> Option<Refusal> {
    let refused = |what: &str, most: u64| {
        Some(Refusal::Other(format!(
            "the buckets of the namespace are full: at most {most} {what}"
        )))
    };
    if after.bytes > quota.bytes && after.bytes > before.bytes {
        return refused("bytes", quota.bytes);
    }
    if after.keys > quota.keys && after.keys > before.keys {
        return refused("keys", quota.keys);
    }
    None
}

fn add(value: Option<&[u8]>, delta: i128, (low, high): (i128, i128)) -> Result<i128, &'static str> {
    let now: i128 = match value {
        None => 0,
        Some(bytes) => std::str::from_utf8(bytes)
            .ok()
            .and_then(|text| text.parse().ok())
            .ok_or("the value is not a number")?,
    };
    now.checked_add(delta)
        .filter(|sum| (low..=high).contains(sum))
        .ok_or("the sum does not fit")
}
