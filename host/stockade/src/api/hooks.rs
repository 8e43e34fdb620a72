//! Hooks: a pool's initializer and finalizer, from the builder's settings to the workers' messages.
//!
//! Deliberately absent: when they run, and what their failure means.

use std::fmt;

use stockade_wire::{Call, Codec, FunctionKind, HookCall, ManifestFunction, ModuleId};

use crate::call::arguments::{self, Arguments};
use crate::call::cancelled::GivenArguments;
use crate::call::payload::Payload;
use crate::call::target::{Callable, CallableKind, ModuleEntry, Target, task_of};
use crate::outcome::error::{BuildError, SubmitError};

/// An initializer or finalizer, and its arguments.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Hook {
    /// The module's name and the function's.
    pub target: (String, String),
    /// Its arguments.
    pub arguments: GivenArguments,
}

impl Hook {
    pub(crate) fn of(chosen: &ChosenHook, modules: &[ModuleEntry]) -> Self {
        let module = modules.iter().find(|module| module.id == chosen.module);
        let module = module.map(|module| module.name.clone()).unwrap_or_default();
        let arguments = match &chosen.call {
            HookCall::Task(call) => {
                GivenArguments::Encoded { codec: call.codec, bytes: call.input.clone() }
            }
            HookCall::Plain { .. } => GivenArguments::Scalars(Vec::new()),
        };
        Self { target: (module, chosen.function.clone()), arguments }
    }
}

/// An initializer or finalizer from the builder; its arguments are encoded once its target is
/// known.
pub(crate) struct GivenHook {
    target: Target,
    encode: Box<EncodeFor>,
}

/// A hook once its target is known.
pub(crate) struct ChosenHook {
    pub(crate) module: ModuleId,
    pub(crate) function: String,
    pub(crate) call: HookCall,
}

type EncodeFor = dyn Fn(&Callable) -> Result<Payload, SubmitError> + Send;

impl fmt::Debug for GivenHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.target.fmt(f)
    }
}

impl GivenHook {
    pub(crate) fn new(target: Target, given: impl Arguments + Clone + Send + 'static) -> Self {
        let encode = move |callable: &Callable| arguments::encode(given.clone(), callable);
        Self { target, encode: Box::new(encode) }
    }
}

impl ChosenHook {
    /// The initializer or finalizer to run: the caller's, else the manifest's if it needs nothing.
    pub(crate) fn choose(
        given: Option<&GivenHook>,
        kind: FunctionKind,
        modules: &[ModuleEntry],
    ) -> Result<Option<Self>, BuildError> {
        let role = match kind {
            FunctionKind::Finalizer => "finalizer",
            _ => "initializer",
        };
        let failed = |source| BuildError::Hook { role, source };
        if let Some(hook) = given {
            let (id, callable) = hook_callable(modules, &hook.target, kind).map_err(failed)?;
            let call = match &callable.kind {
                CallableKind::Scalar { params, results }
                    if params.is_empty() && results.is_empty() =>
                {
                    HookCall::Plain { export: callable.name.clone() }
                }
                _ => match (hook.encode)(&callable).map_err(failed)? {
                    Payload::Task { codec, input } => {
                        HookCall::Task(call(&callable, codec, input.into_vec()))
                    }
                    _ => {
                        return Err(failed(SubmitError::Signature {
                            function: callable.name.clone(),
                            problem: format!(
                                "{} is a task or takes and returns nothing",
                                with_article(role)
                            ),
                            signature: callable.signature(),
                        }));
                    }
                },
            };
            return Ok(Some(Self { module: id, function: callable.name, call }));
        }
        for module in modules {
            let Some(function) = module.description.functions.iter().find(|f| f.kind == kind)
            else {
                continue;
            };
            let callable = hook_of(function);
            let Ok(Payload::Task { codec, input }) = arguments::encode((), &callable) else {
                return Err(failed(SubmitError::Signature {
                    function: function.name.clone(),
                    problem: format!(
                        "module `{}` has this {role}, which needs arguments and is given none",
                        module.name
                    ),
                    signature: callable.signature(),
                }));
            };
            let call = HookCall::Task(call(&callable, codec, input.into_vec()));
            let function = function.name.clone();
            return Ok(Some(Self { module: module.id, function, call }));
        }
        Ok(None)
    }
}

/// A call of a hook, which is named: there is one.
fn call(callable: &Callable, codec: Codec, input: Vec<u8>) -> Call {
    Call { export: callable.export().into(), codec, input }
}

/// A function of the manifest that no task calls, so its number counts for nothing.
fn hook_of(function: &ManifestFunction) -> Callable {
    Callable { name: function.name.clone(), number: 0, kind: task_of(function) }
}

/// Finds a hook by name: among the manifest's of that kind first, then among everything callable.
fn hook_callable(
    modules: &[ModuleEntry],
    target: &Target,
    kind: FunctionKind,
) -> Result<(ModuleId, Callable), SubmitError> {
    for module in modules {
        let declared =
            module.description.functions.iter().find(|function| {
                function.kind == kind && target.names(&module.name, &function.name)
            });
        if let Some(function) = declared {
            return Ok((module.id, hook_of(function)));
        }
    }
    let (module, callable) = crate::call::target::resolve(modules, target)?;
    Ok((module.id, callable.clone()))
}
/// `an initializer`, `a finalizer`.
fn with_article(role: &str) -> String {
    let article = if role.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {role}")
}
