;; Runs the script on stdin, up to 64 KiB, as `qjs -e SCRIPT`.
(module
  (import "program" "memory" (memory 0))
  (import "program" "calloc" (func $calloc (param i32 i32) (result i32)))
  (import "program" "qjs_init_argv" (func $qjs_init_argv (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))

  (func (export "main") (result i32) (local $words i32) (local $script i32)
    (local.set $words (call $calloc (i32.const 1) (i32.const 32)))
    ;; One more than is read: the script ends with a zero.
    (local.set $script (call $calloc (i32.const 1) (i32.const 65537)))
    (i32.store (local.get $words) (local.get $script))
    (i32.store offset=4 (local.get $words) (i32.const 65536))
    (if (call $fd_read
          (i32.const 0) (local.get $words) (i32.const 1) (i32.add (local.get $words) (i32.const 8)))
      (then (return (i32.const 1))))
    ;; "qjs", "-e", and where they are.
    (i32.store offset=12 (local.get $words) (i32.const 0x736a71))
    (i32.store offset=16 (local.get $words) (i32.const 0x652d))
    (i32.store offset=20 (local.get $words) (i32.add (local.get $words) (i32.const 12)))
    (i32.store offset=24 (local.get $words) (i32.add (local.get $words) (i32.const 16)))
    (i32.store offset=28 (local.get $words) (local.get $script))
    (call $qjs_init_argv (i32.const 3) (i32.add (local.get $words) (i32.const 20)))))
