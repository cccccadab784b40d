// The pause program for Linux on 64-bit ARM, position independent, without data and without a library.
// It holds a pod's namespaces: reaps every orphan it inherits, exits with 0 on SIGTERM or SIGINT, and does nothing else.
// As process 1 of a PID namespace it would never see those signals by default; blocked and waited for, it does.
// System call numbers: include/uapi/asm-generic/unistd.h of the kernel.

        .globl  ironkeel_pause
        .globl  ironkeel_pause_end
ironkeel_pause:
        sub     sp, sp, #16
        mov     x9, #0x4002             // SIGINT (2), SIGTERM (15)
        movk    x9, #0x1, lsl #16       // SIGCHLD (17): signal n is bit n-1
        str     x9, [sp]
        mov     x8, #135                // rt_sigprocmask(SIG_BLOCK, set, NULL, 8)
        mov     x0, #0
        mov     x1, sp
        mov     x2, #0
        mov     x3, #8
        svc     #0
        b       2f                      // orphans may have died before the signal was blocked
1:      mov     x8, #137                // rt_sigtimedwait(set, NULL, NULL, 8)
        mov     x0, sp
        mov     x1, #0
        mov     x2, #0
        mov     x3, #8
        svc     #0
        mov     x9, x0
        mov     x0, #0                  // status 0 for a signal that asks to end
        cmp     w9, #2
        b.eq    3f
        cmp     w9, #15
        b.eq    3f
        cmn     w9, #4                  // EINTR: stopped and continued
        b.eq    1b
        mov     x0, #1                  // status 1 if the kernel refuses to wait: better than to spin
        cmp     w9, #0
        b.lt    3f
2:      mov     x8, #260                // wait4(-1, NULL, WNOHANG, NULL) until no zombie is left
        mov     x0, #-1
        mov     x1, #0
        mov     x2, #1
        mov     x3, #0
        svc     #0
        cmp     w0, #0
        b.gt    2b
        b       1b
3:      mov     x8, #94                 // exit_group(status)
        svc     #0
ironkeel_pause_end:
