//! The environment cache, as doors ask for it.

use std::collections::BTreeSet;
use std::sync::Arc;

use pyro_contract::Result;
use pyro_contract::environment::{
    Digest, EnvironmentDetails, EnvironmentInfo, EnvironmentRef, PruneReport,
};
use pyro_environment::{Environment, Store};

use super::{Pyro, blocking};
use crate::reconcile;
use crate::watch::Watch;

impl Pyro {
    /// The environments that are cached, and those that can be.
    pub async fn list_environments(&self) -> Result<Vec<EnvironmentInfo>> {
        self.with_store(&Watch::default(), |store, _| Ok(store.list()?)).await
    }

    /// Fetches an environment into the cache, unless it is there.
    pub async fn pull_environment(
        &self,
        reference: &EnvironmentRef,
        watch: &Watch,
    ) -> Result<EnvironmentInfo> {
        let reference = reference.clone();
        self.with_store(watch, move |store, watch| {
            store.pull(&reference, watch)?;
            Ok(store.inspect(&reference)?.info)
        })
        .await
    }

    /// What an environment holds; with `verify`, every byte of it is compared with its digest.
    pub async fn inspect_environment(
        &self,
        reference: &EnvironmentRef,
        verify: bool,
        watch: &Watch,
    ) -> Result<EnvironmentDetails> {
        let reference = reference.clone();
        self.with_store(watch, move |store, watch| {
            if verify {
                store.verify(&reference, watch)?;
            }
            Ok(store.inspect(&reference)?)
        })
        .await
    }

    /// Drops what no workspace uses; with `all`, also what the next one would need again.
    pub async fn prune_environments(&self, all: bool, watch: &Watch) -> Result<PruneReport> {
        let in_use = self.environments_in_use().await?;
        let home = self.home.clone();
        self.with_store(watch, move |store, watch| {
            let mut report = store.prune(&in_use, all, watch)?;
            let freed = home.prune_derived(all);
            if freed > 0 {
                report.removed.push("what was made of images that are gone".into());
                report.freed_bytes += freed;
            }
            Ok(report)
        })
        .await
    }

    /// The environment, fetched first if it is not cached.
    pub async fn environment(
        &self,
        reference: &EnvironmentRef,
        watch: &Watch,
    ) -> Result<Environment> {
        let reference = reference.clone();
        self.with_store(watch, move |store, watch| Ok(store.pull(&reference, watch)?)).await
    }

    /// The images that living workspaces stand on, which a pruning must keep.
    async fn environments_in_use(&self) -> Result<BTreeSet<Digest>> {
        let home = self.home.clone();
        blocking(move || {
            let _names = home.lock_names()?;
            let mut digests = BTreeSet::new();
            for id in home.ids()? {
                match reconcile::load(&home.workspace(&id)) {
                    Ok(Some(record)) => {
                        digests.extend([record.environment_digest, record.kernel_digest]);
                    }
                    Ok(None) => {}
                    Err(error) => {
                        return Err(error.with_hint(format!(
                            "nothing was pruned, because it is unknown what {id} needs; repair or \
                             delete it first"
                        )));
                    }
                }
            }
            Ok(digests)
        })
        .await
    }

    /// The store's own methods block.
    async fn with_store<T: Send + 'static>(
        &self,
        watch: &Watch,
        work: impl FnOnce(&Store, &Watch) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (store, watch) = (Arc::clone(&self.store), watch.clone());
        blocking(move || work(&store, &watch)).await
    }
}
