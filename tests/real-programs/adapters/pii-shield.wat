;; Feeds stdin to `redact`: the first 32 bytes are its settings, the others, up to 64 KiB, the text.
;; Writes what comes back to stdout.
(module
  (import "program" "memory" (memory 0))
  (import "program" "allocate" (func $allocate (param i32) (result i32)))
  (import "program" "init_config" (func $init_config (param i32 i32)))
  (import "program" "redact" (func $redact (param i32 i32) (result i64)))
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))

  (func (export "main") (local $vectors i32) (local $settings i32) (local $text i32) (local $result i64)
    (local.set $vectors (call $allocate (i32.const 12)))
    (local.set $settings (call $allocate (i32.const 32)))
    (local.set $text (call $allocate (i32.const 65536)))
    (drop (call $read (local.get $vectors) (local.get $settings) (i32.const 32)))
    (call $init_config (local.get $settings) (i32.const 32))
    (local.set $result (call $redact
      (local.get $text) (call $read (local.get $vectors) (local.get $text) (i32.const 65536))))
    ;; The upper half is where it is, the lower one how long.
    (i32.store (local.get $vectors) (i32.wrap_i64 (i64.shr_u (local.get $result) (i64.const 32))))
    (i32.store offset=4 (local.get $vectors) (i32.wrap_i64 (local.get $result)))
    (call $check (call $fd_write
      (i32.const 1) (local.get $vectors) (i32.const 1) (i32.add (local.get $vectors) (i32.const 8)))))

  ;; How many bytes of stdin now lie at `to`.
  (func $read (param $vectors i32) (param $to i32) (param $length i32) (result i32)
    (i32.store (local.get $vectors) (local.get $to))
    (i32.store offset=4 (local.get $vectors) (local.get $length))
    (call $check (call $fd_read
      (i32.const 0) (local.get $vectors) (i32.const 1) (i32.add (local.get $vectors) (i32.const 8))))
    (i32.load offset=8 (local.get $vectors)))

  (func $check (param $errno i32)
    (if (local.get $errno) (then (call $proc_exit (local.get $errno))))))
