//! Columns: a function over numbers, called once for every value of a column.
//!
//! ```text
//! input ─ a block at a time ─► values ─ one call each, in one instance ─► results, end to end
//! ```
//!
//! Each call has the task's fuel for itself; time, memory and output are limited for the column as
//! a whole.
//!
//! Invariant: there is one result for each value, or none at all.

use std::mem;

use wasmtime::{Instance, Store, WasmParams, WasmResults};

use crate::call::Call;
use crate::function::{Function, Kind};
use crate::guest::GuestState;
use crate::payload::CallInput;

/// How much of the input is read at a time: it fits in the L1 cache.
const BLOCK_BYTES: usize = 16 << 10;

/// A number as it stands in a column.
trait Number: Copy {
    const BYTES: usize;

    /// From as many bytes.
    fn read(bytes: &[u8]) -> Self;

    fn write(self, to: &mut Vec<u8>);
}

macro_rules! numbers {
    ($($type:ident)*) => {$(
        impl Number for $type {
            const BYTES: usize = size_of::<Self>();

            fn read(bytes: &[u8]) -> Self {
                let mut own = [0; Self::BYTES];
                own.copy_from_slice(bytes);
                Self::from_le_bytes(own)
            }

            fn write(self, to: &mut Vec<u8>) {
                to.extend_from_slice(&self.to_le_bytes());
            }
        }
    )*};
}

numbers!(i32 i64 f32 f64);

/// Calls `function` in `instance`, which is of its module, for every value of the input of the call
/// that the store is at. Returns the results, end to end.
///
/// # Errors
/// What ended the guest, with the item noted in the call; or that the input is no column of the
/// function's, or its results would be more than the limit.
pub(crate) fn call(
    store: &mut Store<GuestState>,
    instance: Instance,
    function: &Function,
    counts_fuel: bool,
) -> wasmtime::Result<Vec<u8>> {
    let Some((param, result)) = function.column() else {
        return Err(wasmtime::Error::msg("a function that takes no column"));
    };
    let calls = Calls { store, instance, function, counts_fuel };
    match param {
        Kind::I32 => calls.taking::<i32>(result),
        Kind::I64 => calls.taking::<i64>(result),
        Kind::F32 => calls.taking::<f32>(result),
        Kind::F64 => calls.taking::<f64>(result),
    }
}

/// What the calls of a column have in common.
struct Calls<'a> {
    store: &'a mut Store<GuestState>,
    instance: Instance,
    function: &'a Function,
    counts_fuel: bool,
}

impl Calls<'_> {
    fn taking<P: Number + WasmParams>(self, result: Kind) -> wasmtime::Result<Vec<u8>> {
        match result {
            Kind::I32 => self.make::<P, i32>(),
            Kind::I64 => self.make::<P, i64>(),
            Kind::F32 => self.make::<P, f32>(),
            Kind::F64 => self.make::<P, f64>(),
        }
    }

    fn make<P, R>(self) -> wasmtime::Result<Vec<u8>>
    where
        P: Number + WasmParams,
        R: Number + WasmResults,
    {
        let Self { store, instance, function, counts_fuel } = self;
        let function = function.found_in(store, instance)?.typed::<P, R>(&*store)?;
        let call = &mut store.data_mut().call;
        // What the guest asks its host for is of a function over scalars: there is no input.
        let input = mem::replace(&mut call.input, CallInput::NONE);
        if !input.len().is_multiple_of(P::BYTES) {
            return Err(wasmtime::Error::msg("a column with half a value"));
        }
        let result_bytes = input.len() / P::BYTES * R::BYTES;
        call.count_column(result_bytes as u64)?;
        let mut results = Vec::with_capacity(result_bytes);
        let mut block = vec![0; BLOCK_BYTES.min(input.len())];
        let (mut at, mut item) = (0, 0);
        while at < input.len() {
            let length = block.len().min(input.len() - at);
            let values = &mut block[..length];
            // The host places no input that is longer than such a number.
            input.read(u32::try_from(at)?, values)?;
            for value in values.chunks_exact(P::BYTES) {
                begin_item(store, item, counts_fuel)?;
                function.call(&mut *store, P::read(value))?.write(&mut results);
                item += 1;
            }
            at += length;
        }
        store.data_mut().call.item = None;
        Ok(results)
    }
}

/// Starts the next item's call: refusals, error text and usage of earlier items do not count for
/// it.
fn begin_item(store: &mut Store<GuestState>, item: u32, counts_fuel: bool) -> wasmtime::Result<()> {
    let GuestState { call, meter, .. } = store.data_mut();
    call.item = Some(item);
    call.error.clear();
    meter.forget_refusal();
    if counts_fuel {
        let left = store.get_fuel()?;
        let Call { earlier_fuel, fuel_limit, .. } = &mut store.data_mut().call;
        *earlier_fuel += *fuel_limit - left;
        let fuel = *fuel_limit;
        store.set_fuel(fuel)?;
    }
    Ok(())
}
