//! The host calls of the guest ABI, and the WASI calls that are implemented here instead of by
//! wasmtime-wasi.
//!
//! Every pointer is hostile. A call finds the guest's memory anew, because the last one may have
//! been followed by a growth, and takes a checked slice of it before anything is copied or
//! allocated.

use std::time::Instant;

use stockade_abi::{MEMORY_EXPORT, import};
use stockade_wire::{Bell, WorkerMessage};
use wasmtime::{Caller, Extern, Linker};

use crate::failure::HostTrap;
use crate::guest::GuestState;
use crate::memory;
use crate::overlay::{self, Overlay};
use crate::payload::CallInput;
use crate::{descriptors, poll, reading};

type Guest<'a> = Caller<'a, GuestState>;

/// Everything that a guest may import.
///
/// # Errors
/// If the engine refuses a definition; none is expected to.
pub(crate) fn linker(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<GuestState>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p1::add_to_linker_sync(&mut linker, GuestState::wasi)?;
    linker.allow_shadowing(true);
    add_exit(&mut linker)?;
    poll::add_to_linker(&mut linker)?;
    reading::add_to_linker(&mut linker)?;
    descriptors::add_to_linker(&mut linker)?;
    linker.allow_shadowing(false);
    add_input(&mut linker)?;
    add_output(&mut linker)?;
    add_signals(&mut linker)?;
    Ok(linker)
}

/// `proc_exit` with any code; wasmtime-wasi's takes those below 126 only.
fn add_exit(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    linker.func_wrap(
        "wasi_snapshot_preview1",
        "proc_exit",
        |code: i32| -> wasmtime::Result<()> { Err(HostTrap::Exit(code).into()) },
    )?;
    Ok(())
}

fn add_input(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    let module = import::MODULE;
    linker.func_wrap(module, import::INPUT_LEN, |guest: Guest<'_>| {
        // No frame brings as much as would not fit.
        guest.data().call.input.len() as u32
    })?;
    linker.func_wrap(module, import::INPUT_CODEC, |guest: Guest<'_>| {
        use stockade_abi::Codec as Number;
        use stockade_wire::Codec;
        (match guest.data().call.codec {
            Codec::Raw => Number::Raw,
            Codec::Bincode => Number::Bincode,
            Codec::Json => Number::Json,
        }) as i32
    })?;
    linker.func_wrap(
        module,
        import::INPUT_READ,
        |mut guest: Guest<'_>, pointer: u32, offset: u32, length: u32| {
            let (memory, state) = memory_and_state(&mut guest)?;
            let place = slice_mut(memory, pointer, length)?;
            if let CallInput::File(_) = state.call.input {
                // The kernel writes there.
                memory::touch(place, state.surroundings.page_bytes);
            }
            state.call.input.read(offset, place)
        },
    )?;
    linker.func_wrap(
        module,
        import::INPUT_MAP,
        |mut guest: Guest<'_>, pointer: u32, length: u32| {
            let (memory, state) = memory_and_state(&mut guest)?;
            overlay::map_input(memory, state, pointer, length).map(i32::from)
        },
    )?;
    Ok(())
}

fn add_output(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    let module = import::MODULE;
    linker.func_wrap(
        module,
        import::OUTPUT_WRITE,
        |mut guest: Guest<'_>, pointer: u32, length: u32| {
            let (memory, state) = memory_and_state(&mut guest)?;
            let bytes = slice(memory, pointer, length)?;
            if let Some(mapped) = state.overlay.as_ref().map(Overlay::place) {
                let start = pointer as usize;
                let is_input = mapped == (start..start + bytes.len());
                if is_input && state.call.leave_in_place()? {
                    return Ok(());
                }
                state.call.take_from_place(&memory[mapped])?;
            }
            Ok(state.call.write_output(bytes)?)
        },
    )?;
    linker.func_wrap(
        module,
        import::ERROR_WRITE,
        |mut guest: Guest<'_>, pointer: u32, length: u32| {
            let (memory, state) = memory_and_state(&mut guest)?;
            state.call.write_error(slice(memory, pointer, length)?);
            wasmtime::Result::Ok(())
        },
    )?;
    linker.func_wrap(module, import::EMIT, |mut guest: Guest<'_>, pointer: u32, length: u32| {
        let (memory, state) = memory_and_state(&mut guest)?;
        let item = slice(memory, pointer, length)?;
        state.call.count_item(item.len() as u64)?;
        let message = WorkerMessage::Emitted(state.call.task, item.to_vec());
        let link = state.surroundings.link.as_ref().ok_or(HostTrap::HostGone)?;
        link.host.send(&message, Bell::Now).map_err(|_| HostTrap::HostGone)?;
        wasmtime::Result::Ok(())
    })?;
    Ok(())
}

fn add_signals(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    let module = import::MODULE;
    linker.func_wrap(module, import::PROGRESS, |guest: Guest<'_>, done: u64, total: u64| {
        let state = guest.data();
        if let Some(link) = &state.surroundings.link {
            link.page.progress(state.call.task, done, total);
        }
    })?;
    linker.func_wrap(
        module,
        import::LOG,
        |mut guest: Guest<'_>, level: i32, pointer: u32, length: u32| {
            let (memory, state) = memory_and_state(&mut guest)?;
            state.call.write_log(level, slice(memory, pointer, length)?);
            wasmtime::Result::Ok(())
        },
    )?;
    linker.func_wrap(module, import::REMAINING_NS, |guest: Guest<'_>| {
        guest.data().call.remaining_ns(Instant::now())
    })?;
    linker.func_wrap(module, import::TASK_ID, |guest: Guest<'_>| guest.data().call.number())?;
    Ok(())
}

/// The guest's memory as it is now, besides its state.
///
/// # Errors
/// [`HostTrap::NoMemory`] where it exports none under the ABI's name.
pub(crate) fn memory_and_state<'a>(
    guest: &'a mut Guest<'_>,
) -> Result<(&'a mut [u8], &'a mut GuestState), HostTrap> {
    let memory = match guest.data().memory {
        Some(memory) => memory,
        // Its start function runs. By name, because nothing else holds where the caller is no
        // instance at all, as with a host call that a module exports as its own function.
        None => match guest.get_export(MEMORY_EXPORT) {
            Some(Extern::Memory(memory)) => memory,
            _ => return Err(HostTrap::NoMemory),
        },
    };
    Ok(memory.data_and_store_mut(guest))
}

/// A place in a guest's memory.
///
/// # Errors
/// [`HostTrap::OutOfBounds`] where it is not all there.
pub(crate) fn slice(memory: &[u8], pointer: u32, length: u32) -> Result<&[u8], HostTrap> {
    let start = pointer as usize;
    // Two 32-bit numbers cannot overflow the sum.
    memory.get(start..start + length as usize).ok_or(HostTrap::OutOfBounds { pointer, length })
}

/// As [`slice`], to be written.
///
/// # Errors
/// As [`slice`].
pub(crate) fn slice_mut(
    memory: &mut [u8],
    pointer: u32,
    length: u32,
) -> Result<&mut [u8], HostTrap> {
    let start = pointer as usize;
    memory.get_mut(start..start + length as usize).ok_or(HostTrap::OutOfBounds { pointer, length })
}
