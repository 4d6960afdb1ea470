//! `wasi:keyvalue`: the namespace's buckets for guests, in both drafts of the proposal that are in use. They differ in
//! cursors, in the numbers of `increment`, and in that only the second has compare-and-swap.

use std::sync::Arc;

use wasmtime::component::{HasData, Resource, ResourceTable};

use super::super::keyvalue::{self, Buckets, Change, From, Quota, Refusal};
use super::{Guest, Linker};

mod draft {
    wasmtime::component::bindgen!({
        path: "../../wit/wasi-keyvalue",
        world: "imports",
        imports: { default: async | trappable },
        with: { "wasi:keyvalue/store.bucket": super::Bucket },
    });
}

mod draft2 {
    wasmtime::component::bindgen!({
        path: "../../wit/wasi-keyvalue-draft2",
        world: "imports",
        imports: { default: async | trappable },
        with: {
            "wasi:keyvalue/store.bucket": super::Bucket,
            "wasi:keyvalue/atomics.cas": super::Cas,
        },
    });
}

/// An open bucket: its name.
pub struct Bucket(String);

/// What a swap is to find. The value itself is not kept, so that handles cost next to nothing.
pub struct Cas {
    bucket: String,
    key: String,
    revision: u64,
}

/// What these functions have of a guest.
pub(in super::super) struct View<'a> {
    pub(in super::super) access: Access<'a>,
    pub(in super::super) table: &'a mut ResourceTable,
}

#[derive(Clone, Copy)]
pub(in super::super) struct Access<'a> {
    pub(in super::super) buckets: &'a Arc<Buckets>,
    pub(in super::super) quota: Quota,
}

struct HasBuckets;

impl HasData for HasBuckets {
    type Data<'a> = View<'a>;
}

impl View<'_> {
    fn name(&self, bucket: &Resource<Bucket>) -> wasmtime::Result<String> {
        Ok(self.table.get(bucket)?.0.clone())
    }
}

impl Access<'_> {
    async fn read(&self, bucket: &str, key: String) -> Result<keyvalue::Entry, Refusal> {
        let mut found = self.buckets.get(bucket, vec![key]).await?;
        Ok(found.pop().unwrap_or_default())
    }

    async fn write(&self, bucket: &str, changes: Vec<Change>) -> Result<i128, Refusal> {
        self.buckets.write(bucket, changes, self.quota).await
    }

    async fn add(&self, bucket: &str, key: String, delta: i128, bounds: (i128, i128)) -> Result<i128, Refusal> {
        self.write(bucket, vec![Change::Add { key, delta, bounds }]).await
    }
}

/// What both drafts have, for the bindings of one.
macro_rules! common {
    ($draft:ident, $cursor:ty, $from:expr, $next:expr) => {
        impl std::convert::From<Refusal> for $draft::wasi::keyvalue::store::Error {
            fn from(refusal: Refusal) -> Self {
                match refusal {
                    Refusal::NoSuchStore(_) => Self::NoSuchStore,
                    Refusal::Denied => Self::AccessDenied,
                    refusal => Self::Other(refusal.to_string()),
                }
            }
        }

        impl $draft::wasi::keyvalue::store::Host for View<'_> {
            async fn open(
                &mut self,
                identifier: String,
            ) -> wasmtime::Result<Result<Resource<Bucket>, $draft::wasi::keyvalue::store::Error>> {
                Ok(match keyvalue::bucket(identifier) {
                    Ok(name) => Ok(self.table.push(Bucket(name))?),
                    Err(refusal) => Err(refusal.into()),
                })
            }
        }

        impl $draft::wasi::keyvalue::store::HostBucket for View<'_> {
            async fn get(
                &mut self,
                bucket: Resource<Bucket>,
                key: String,
            ) -> wasmtime::Result<Result<Option<Vec<u8>>, $draft::wasi::keyvalue::store::Error>> {
                let bucket = self.name(&bucket)?;
                let found = self.access.read(&bucket, key).await;
                Ok(found.map(|entry| entry.value).map_err(Into::into))
            }
            async fn set(
                &mut self,
                bucket: Resource<Bucket>,
                key: String,
                value: Vec<u8>,
            ) -> wasmtime::Result<Result<(), $draft::wasi::keyvalue::store::Error>> {
                let bucket = self.name(&bucket)?;
                let written = self.access.write(&bucket, vec![Change::Set(key, value)]).await;
                Ok(written.map(drop).map_err(Into::into))
            }
            async fn delete(
                &mut self,
                bucket: Resource<Bucket>,
                key: String,
            ) -> wasmtime::Result<Result<(), $draft::wasi::keyvalue::store::Error>> {
                let bucket = self.name(&bucket)?;
                let written = self.access.write(&bucket, vec![Change::Delete(key)]).await;
                Ok(written.map(drop).map_err(Into::into))
            }
            async fn exists(
                &mut self,
                bucket: Resource<Bucket>,
                key: String,
            ) -> wasmtime::Result<Result<bool, $draft::wasi::keyvalue::store::Error>> {
                let bucket = self.name(&bucket)?;
                let found = self.access.read(&bucket, key).await;
                Ok(found.map(|entry| entry.value.is_some()).map_err(Into::into))
            }
            async fn list_keys(
                &mut self,
                bucket: Resource<Bucket>,
                cursor: Option<$cursor>,
            ) -> wasmtime::Result<
                Result<$draft::wasi::keyvalue::store::KeyResponse, $draft::wasi::keyvalue::store::Error>,
            > {
                let bucket = self.name(&bucket)?;
                let from: From = $from(cursor.clone());
                Ok(match self.access.buckets.list(&bucket, from).await {
                    Ok((keys, more)) => {
                        let cursor = if more { $next(cursor, &keys) } else { None };
                        Ok($draft::wasi::keyvalue::store::KeyResponse { keys, cursor })
                    }
                    Err(refusal) => Err(refusal.into()),
                })
            }
            async fn drop(&mut self, bucket: Resource<Bucket>) -> wasmtime::Result<()> {
                self.table.delete(bucket)?;
                Ok(())
            }
        }

        impl $draft::wasi::keyvalue::batch::Host for View<'_> {
            async fn get_many(
                &mut self,
                bucket: Resource<Bucket>,
                keys: Vec<String>,
            ) -> wasmtime::Result<Result<Vec<Option<(String, Vec<u8>)>>, $draft::wasi::keyvalue::store::Error>> {
                let bucket = self.name(&bucket)?;
                Ok(match self.access.buckets.get(&bucket, keys.clone()).await {
                    Ok(found) => Ok(keys
                        .into_iter()
                        .zip(found)
                        .map(|(key, entry)| Some((key, entry.value?)))
                        .collect()),
                    Err(refusal) => Err(refusal.into()),
                })
            }
            async fn set_many(
                &mut self,
                bucket: Resource<Bucket>,
                pairs: Vec<(String, Vec<u8>)>,
            ) -> wasmtime::Result<Result<(), $draft::wasi::keyvalue::store::Error>> {
                let bucket = self.name(&bucket)?;
                let changes = pairs.into_iter().map(|(key, value)| Change::Set(key, value));
                let written = self.access.write(&bucket, changes.collect()).await;
                Ok(written.map(drop).map_err(Into::into))
            }
            async fn delete_many(
                &mut self,
                bucket: Resource<Bucket>,
                keys: Vec<String>,
            ) -> wasmtime::Result<Result<(), $draft::wasi::keyvalue::store::Error>> {
                let bucket = self.name(&bucket)?;
                let changes = keys.into_iter().map(Change::Delete).collect();
                let written = self.access.write(&bucket, changes).await;
                Ok(written.map(drop).map_err(Into::into))
            }
        }
    };
}

common!(
    draft,
    u64,
    |cursor: Option<u64>| From::Skip(cursor.unwrap_or(0)),
    |cursor: Option<u64>, keys: &Vec<String>| Some(cursor.unwrap_or(0) + keys.len() as u64)
);
common!(
    draft2,
    String,
    |cursor: Option<String>| cursor.map_or(From::Skip(0), From::After),
    |_, keys: &Vec<String>| keys.last().cloned()
);

impl draft::wasi::keyvalue::atomics::Host for View<'_> {
    async fn increment(
        &mut self,
        bucket: Resource<Bucket>,
        key: String,
        delta: u64,
    ) -> wasmtime::Result<Result<u64, draft::wasi::keyvalue::store::Error>> {
        let bucket = self.name(&bucket)?;
        let sum = self.access.add(&bucket, key, delta.into(), (0, u64::MAX.into())).await;
        // Within the bounds.
        Ok(sum.map(|sum| sum as u64).map_err(Into::into))
    }
}

impl draft2::wasi::keyvalue::atomics::Host for View<'_> {
    async fn increment(
        &mut self,
        bucket: Resource<Bucket>,
        key: String,
        delta: i64,
    ) -> wasmtime::Result<Result<i64, draft2::wasi::keyvalue::store::Error>> {
        let bucket = self.name(&bucket)?;
        let bounds = (i64::MIN.into(), i64::MAX.into());
        let sum = self.access.add(&bucket, key, delta.into(), bounds).await;
        // Within the bounds.
        Ok(sum.map(|sum| sum as i64).map_err(Into::into))
    }

    async fn swap(
        &mut self,
        cas: Resource<Cas>,
        value: Vec<u8>,
    ) -> wasmtime::Result<Result<(), draft2::wasi::keyvalue::atomics::CasError>> {
        use draft2::wasi::keyvalue::atomics::CasError;
        let Cas { bucket, key, revision } = self.table.delete(cas)?;
        let swap = vec![Change::Swap(key.clone(), value, revision)];
        Ok(match self.access.write(&bucket, swap).await {
            Ok(_) => Ok(()),
            Err(Refusal::Changed) => match self.access.read(&bucket, key.clone()).await {
                Ok(now) => {
                    let revision = now.revision;
                    Err(CasError::CasFailed(self.table.push(Cas { bucket, key, revision })?))
                }
                Err(refusal) => Err(CasError::StoreError(refusal.into())),
            },
            Err(refusal) => Err(CasError::StoreError(refusal.into())),
        })
    }
}

impl draft2::wasi::keyvalue::atomics::HostCas for View<'_> {
    async fn new(
        &mut self,
        bucket: Resource<Bucket>,
        key: String,
    ) -> wasmtime::Result<Result<Resource<Cas>, draft2::wasi::keyvalue::store::Error>> {
        let bucket = self.name(&bucket)?;
        Ok(match self.access.read(&bucket, key.clone()).await {
            Ok(now) => {
                let revision = now.revision;
                Ok(self.table.push(Cas { bucket, key, revision })?)
            }
            Err(refusal) => Err(refusal.into()),
        })
    }

    /// The handle is for what this read found, so that the value a guest has seen is the one that its swap replaces.
    async fn current(
        &mut self,
        cas: Resource<Cas>,
    ) -> wasmtime::Result<Result<Option<Vec<u8>>, draft2::wasi::keyvalue::store::Error>> {
        let Cas { bucket, key, .. } = self.table.get(&cas)?;
        let (bucket, key) = (bucket.clone(), key.clone());
        Ok(match self.access.read(&bucket, key).await {
            Ok(now) => {
                self.table.get_mut(&cas)?.revision = now.revision;
                Ok(now.value)
            }
            Err(refusal) => Err(refusal.into()),
        })
    }

    async fn drop(&mut self, cas: Resource<Cas>) -> wasmtime::Result<()> {
        self.table.delete(cas)?;
        Ok(())
    }
}

pub(super) fn add_to_linker(linker: &mut Linker) -> wasmtime::Result<()> {
    draft::Imports::add_to_linker::<Guest, HasBuckets>(linker, Guest::buckets)?;
    draft2::Imports::add_to_linker::<Guest, HasBuckets>(linker, Guest::buckets)
}
