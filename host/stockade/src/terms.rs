//! Terms: what tasks of one function have in common, kept once for all of them.
//!
//! ```text
//! (target, options) ──► Terms ◄── TaskCell, TaskCell, TaskCell …
//! ```
//!
//! Those of a function that is called without limits or a label of a task's own are made once a pool,
//! those of a map once a map or, where its chunks share instances, once a chunk.
//!
//! Deliberately absent: what differs from task to task, and what only the dispatcher asks for.

use std::sync::{Arc, OnceLock};

use stockade_wire::{ChunkId, Limits, ModuleId};

use crate::link::Link;
use crate::options::TaskOptions;
use crate::shape::Shape;
use crate::target::{Callable, ModuleEntry, Target};

/// What tasks have in common.
#[derive(Debug)]
pub(crate) struct Terms {
    /// The way to their pool.
    pub(crate) link: Arc<Link>,
    /// What is called, as the caller named it.
    pub(crate) target: String,
    pub(crate) label: Option<String>,
    pub(crate) module: ModuleId,
    /// The function's number in its module.
    pub(crate) function: u32,
    /// What the result is made of, where the module tells it.
    pub(crate) result_shape: Option<Arc<Shape>>,
    pub(crate) limits: Arc<Limits>,
    /// Whether a worker has to be told the limits, as they are not the pool's.
    pub(crate) tells_limits: bool,
    /// The chunk whose tasks share an instance.
    pub(crate) share: Option<ChunkId>,
}

#[cfg(all(test, shuttle))]
impl Terms {
    /// Of a function that a model needs no more of.
    pub(crate) fn of_a_model(link: Arc<Link>) -> Self {
        Self {
            link,
            target: String::new(),
            label: None,
            module: ModuleId(0),
            function: 0,
            result_shape: None,
            limits: Arc::default(),
            tells_limits: false,
            share: None,
        }
    }
}

/// The terms of all functions of a pool, as far as they were asked for.
#[derive(Debug)]
pub(crate) struct AllTerms {
    link: Arc<Link>,
    limits: Arc<Limits>,
    /// By the numbers of module and function; under the function's name alone, and beside its
    /// module's.
    known: Vec<Vec<[OnceLock<Arc<Terms>>; 2]>>,
}

impl AllTerms {
    /// Of the functions of `modules`, whose tasks have these limits unless they ask for others.
    pub(crate) fn new(link: Arc<Link>, limits: Arc<Limits>, modules: &[ModuleEntry]) -> Self {
        let of_module = |module: &ModuleEntry| {
            std::iter::repeat_with(Default::default).take(module.callables.len()).collect()
        };
        Self { link, limits, known: modules.iter().map(of_module).collect() }
    }

    /// The terms of a task of `callable` in `module`, which `target` names or stands for.
    pub(crate) fn get(
        &self,
        target: &Target,
        (module, callable): (&ModuleEntry, &Callable),
        options: &TaskOptions,
        share: Option<ChunkId>,
    ) -> Arc<Terms> {
        let make = || {
            let limits = options.limits.as_ref().filter(|limits| **limits != *self.limits);
            Arc::new(Terms {
                link: self.link.clone(),
                target: target.renamed(&callable.name).to_string(),
                label: options.label.clone(),
                module: module.id,
                function: callable.number,
                result_shape: callable.result_shape(),
                limits: limits.map_or_else(|| self.limits.clone(), |own| Arc::new(own.clone())),
                tells_limits: limits.is_some(),
                share,
            })
        };
        if options.limits.is_some() || options.label.is_some() || share.is_some() {
            return make();
        }
        let of_module = self.known.get(module.id.0 as usize);
        let known = of_module.and_then(|known| known.get(callable.number as usize));
        match known {
            Some(known) => known[usize::from(target.names_module())].get_or_init(make).clone(),
            None => make(),
        }
    }
}
