//! A module's exported functions, looked up and checked once for all its instances.
//!
//! ```text
//! Module ─► Functions: by name ─► Function: where it is, its type
//!                                    └─► called in this instance, in the next, …
//! ```
//!
//! The engine's own typed functions belong to a store. A fresh instance for every task would have
//! its export looked up by name and its type fetched under a lock and compared, for one call.
//!
//! Invariant: a call gives a function just the values that its type asks for.
//!
//! Deliberately absent: functions that take or return anything but scalars, which nobody can call.
#![allow(unsafe_code)]

use std::collections::BTreeMap;

use stockade_wire::Scalar;
use wasmtime::{Extern, ExternType, Func, Instance, Module, ModuleExport, Store, ValRaw, ValType};

use crate::guest::GuestState;

/// The functions that a module exports.
pub(crate) struct Functions {
    list: Vec<Function>,
    places: BTreeMap<String, usize>,
}

/// An exported function over scalars.
pub(crate) struct Function {
    export: ModuleExport,
    params: Vec<Kind>,
    results: Vec<Kind>,
}

/// The type of a scalar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    I32,
    I64,
    F32,
    F64,
}

impl Functions {
    /// Looks at the exports of `module`.
    pub(crate) fn of(module: &Module) -> Self {
        let exports = module.exports().filter_map(|export| {
            let ExternType::Func(ty) = export.ty() else { return None };
            let function = Function {
                export: module.get_export_index(export.name())?,
                params: ty.params().map(Kind::of).collect::<Option<_>>()?,
                results: ty.results().map(Kind::of).collect::<Option<_>>()?,
            };
            Some((export.name().to_owned(), function))
        });
        let (mut list, mut places) = (Vec::new(), BTreeMap::new());
        for (name, function) in exports {
            places.insert(name, list.len());
            list.push(function);
        }
        Self { list, places }
    }

    /// The function that is exported as `name`.
    pub(crate) fn get(&self, name: &str) -> Option<&Function> {
        self.at(self.place(name)?)
    }

    /// Where the function is that is exported as `name`.
    pub(crate) fn place(&self, name: &str) -> Option<usize> {
        self.places.get(name).copied()
    }

    /// The function at a place.
    pub(crate) fn at(&self, place: usize) -> Option<&Function> {
        self.list.get(place)
    }
}

impl Function {
    /// Whether it is of type `() -> i32`.
    pub(crate) fn is_task(&self) -> bool {
        self.params.is_empty() && self.results == [Kind::I32]
    }

    /// Whether it is of type `() -> ()`.
    pub(crate) fn is_plain(&self) -> bool {
        self.params.is_empty() && self.results.is_empty()
    }

    /// Whether a program may begin in it: of type `() -> ()`, or `() -> i32` where it returns its exit
    /// code.
    pub(crate) fn is_entry(&self) -> bool {
        self.is_plain() || self.is_task()
    }

    /// Whether it takes `args`.
    pub(crate) fn takes(&self, args: &[Scalar]) -> bool {
        args.iter().copied().map(Kind::of_scalar).eq(self.params.iter().copied())
    }

    /// The types of its parameter and of its result, where it has one of each.
    pub(crate) fn column(&self) -> Option<(Kind, Kind)> {
        match (&self.params[..], &self.results[..]) {
            (&[param], &[result]) => Some((param, result)),
            _ => None,
        }
    }

    /// It in `instance`, where that is of its module.
    pub(crate) fn found_in(
        &self,
        store: &mut Store<GuestState>,
        instance: Instance,
    ) -> wasmtime::Result<Func> {
        // Nothing is found in an instance of another module.
        let export = instance.get_module_export(store, &self.export);
        let function = export.and_then(Extern::into_func);
        function.ok_or_else(|| wasmtime::Error::msg("a function of another module"))
    }

    /// Calls it in `instance`, which is of its module.
    ///
    /// # Errors
    /// What ended the guest; or that it does not take `args`.
    pub(crate) fn call(
        &self,
        store: &mut Store<GuestState>,
        instance: Instance,
        args: &[Scalar],
    ) -> wasmtime::Result<Vec<Scalar>> {
        if !self.takes(args) {
            return Err(wasmtime::Error::msg("a function is called with what it does not take"));
        }
        let mut values: Vec<ValRaw> = args.iter().copied().map(to_raw).collect();
        values.resize(values.len().max(self.results.len()), ValRaw::i64(0));
        // SAFETY: `args` are of the types of its parameters, just compared, and there is room for
        // its results.
        unsafe { self.call_raw(store, instance, &mut values) }?;
        Ok(self.results.iter().zip(values).map(|(kind, value)| kind.scalar(value)).collect())
    }

    /// Calls it as a task in `instance`, which is of its module; returns its status.
    ///
    /// # Errors
    /// What ended the guest, or that it is not a task.
    pub(crate) fn call_task(
        &self,
        store: &mut Store<GuestState>,
        instance: Instance,
    ) -> wasmtime::Result<i32> {
        if !self.is_task() {
            return Err(wasmtime::Error::msg("a function is called as a task that is none"));
        }
        let mut status = [ValRaw::i32(0)];
        // SAFETY: it takes nothing and there is room for its one result.
        unsafe { self.call_raw(store, instance, &mut status) }?;
        Ok(status[0].get_i32())
    }

    /// # Safety
    /// `values` begin with its arguments, each of its parameter's type, and have room for as many
    /// results as it has.
    unsafe fn call_raw(
        &self,
        store: &mut Store<GuestState>,
        instance: Instance,
        values: &mut [ValRaw],
    ) -> wasmtime::Result<()> {
        let function = self.found_in(store, instance)?;
        // SAFETY: the array is as this function's callers say; scalars refer to nothing; the engine
        // makes no asynchronous calls.
        unsafe { function.call_unchecked(store, values) }
    }
}

impl Kind {
    fn of(ty: ValType) -> Option<Self> {
        match ty {
            ValType::I32 => Some(Self::I32),
            ValType::I64 => Some(Self::I64),
            ValType::F32 => Some(Self::F32),
            ValType::F64 => Some(Self::F64),
            ValType::V128 | ValType::Ref(_) => None,
        }
    }

    fn of_scalar(scalar: Scalar) -> Self {
        match scalar {
            Scalar::I32(_) => Self::I32,
            Scalar::I64(_) => Self::I64,
            Scalar::F32(_) => Self::F32,
            Scalar::F64(_) => Self::F64,
        }
    }

    fn scalar(self, value: ValRaw) -> Scalar {
        match self {
            Self::I32 => Scalar::I32(value.get_i32()),
            Self::I64 => Scalar::I64(value.get_i64()),
            Self::F32 => Scalar::F32(value.get_f32()),
            Self::F64 => Scalar::F64(value.get_f64()),
        }
    }
}

fn to_raw(scalar: Scalar) -> ValRaw {
    match scalar {
        Scalar::I32(number) => ValRaw::i32(number),
        Scalar::I64(number) => ValRaw::i64(number),
        Scalar::F32(bits) => ValRaw::f32(bits),
        Scalar::F64(bits) => ValRaw::f64(bits),
    }
}

#[cfg(test)]
mod tests {
    use stockade_wire::Limits;

    use super::*;
    use crate::engine::{self, Compiling};

    fn functions(source: &str) -> Functions {
        let engine =
            engine::for_compiler(&Limits::default().engine_settings(), Compiling::default())
                .unwrap();
        let binary = wat::parse_str(source).unwrap();
        Functions::of(&Module::from_binary(&engine, &binary).unwrap())
    }

    #[test]
    fn a_function_is_known_by_its_whole_type() {
        let functions = functions(
            r#"(module
                (func (export "task") (result i32) (i32.const 0))
                (func (export "plain"))
                (func (export "wide") (result i64) (i64.const 0))
                (func (export "two") (result i32 i32) (i32.const 0) (i32.const 0))
                (func (export "taking") (param i32) (result i32) (i32.const 0))
                (func (export "vector") (result v128) (v128.const i64x2 0 0))
                (func (export "reference") (param funcref))
                (memory (export "memory") 1))"#,
        );
        let kinds = ["task", "plain", "wide", "two", "taking"].map(|name| {
            let function = functions.get(name).unwrap();
            (function.is_task(), function.is_plain())
        });
        let neither = (false, false);
        assert_eq!(kinds, [(true, false), (false, true), neither, neither, neither]);
        for name in ["vector", "reference", "memory", "none", ""] {
            assert!(functions.get(name).is_none(), "{name}");
        }
    }

    #[test]
    fn a_function_takes_as_many_scalars_as_its_type_has_and_of_the_same_kinds() {
        let functions = functions(
            r#"(module (func (export "f") (param i32 i64 f32 f64) (result f64) (local.get 3)))"#,
        );
        let function = functions.get("f").unwrap();
        let args = [Scalar::I32(1), Scalar::I64(2), Scalar::F32(3), Scalar::F64(4)];
        assert!(function.takes(&args));
        assert!(!function.takes(&args[..3]));
        assert!(!function.takes(&[]));
        let mut swapped = args;
        swapped.swap(2, 3);
        assert!(!function.takes(&swapped));
    }
}
