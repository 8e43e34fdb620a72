//! What the compiler admits is what a worker links: the list of one against the linker of the other.

use std::sync::Arc;
use std::time::Instant;

use stockade_module::IMPORTS;
use stockade_wire::{Codec, Grants, Limits, ValueType};
use wasmtime::{Extern, Store, ValType};

use crate::call::{Call, NO_TASK};
use crate::engine::{self, Compiling};
use crate::guest::{GuestState, Surroundings};
use crate::hostcalls;
use crate::payload::CallInput;

type Definition = (String, String, Vec<ValueType>, Vec<ValueType>);

#[test]
fn what_may_be_imported_is_what_is_linked() {
    let mut linked = linked();
    linked.sort_by_key(|(module, name, ..)| (module.clone(), name.clone()));
    let mut listed: Vec<Definition> = IMPORTS
        .iter()
        .map(|import| {
            let (module, name) = (import.module.to_owned(), import.name.to_owned());
            (module, name, import.params.to_vec(), import.results.to_vec())
        })
        .collect();
    listed.sort_by_key(|(module, name, ..)| (module.clone(), name.clone()));
    for (listed, linked) in listed.iter().zip(&linked) {
        assert_eq!(listed, linked);
    }
    assert_eq!(listed.len(), linked.len());
}

fn linked() -> Vec<Definition> {
    let limits = Limits::default();
    let engine = engine::for_compiler(&limits.engine_settings(), Compiling::default()).unwrap();
    let linker = hostcalls::linker(&engine).unwrap();
    // A store to look definitions up in; no guest will ever be in it.
    let (grants, since) = (Grants::none(), Instant::now());
    let surroundings = Surroundings { grants, since, page_bytes: 4096, link: None };
    let call = Call::new(NO_TASK, Codec::Raw, CallInput::NONE, &limits, Instant::now());
    let mut store = Store::new(&engine, GuestState::new(Arc::new(surroundings), None, call));
    let all: Vec<(String, String, Extern)> = linker
        .iter(&mut store)
        .map(|(module, name, found)| (module.to_owned(), name.to_owned(), found))
        .collect();
    let definition = |(module, name, found): (String, String, Extern)| {
        let Extern::Func(function) = found else { panic!("{module}.{name} is no function") };
        let ty = function.ty(&store);
        let params = ty.params().map(|ty| value_type(&ty)).collect();
        (module, name, params, ty.results().map(|ty| value_type(&ty)).collect())
    };
    all.into_iter().map(definition).collect()
}

fn value_type(ty: &ValType) -> ValueType {
    match ty {
        ValType::I32 => ValueType::I32,
        ValType::I64 => ValueType::I64,
        ValType::F32 => ValueType::F32,
        ValType::F64 => ValueType::F64,
        ValType::V128 | ValType::Ref(_) => ValueType::Other,
    }
}
