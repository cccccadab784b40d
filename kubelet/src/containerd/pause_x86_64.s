# The pause program for Linux on x86-64 (AT&T syntax), position independent, without data and without a library.
# It holds a pod's namespaces: reaps every orphan it inherits, exits with 0 on SIGTERM or SIGINT, and does nothing else.
# As process 1 of a PID namespace it would never see those signals by default; blocked and waited for, it does.
# System call numbers: arch/x86/entry/syscalls/syscall_64.tbl of the kernel.

        .globl  ironkeel_pause
        .globl  ironkeel_pause_end
ironkeel_pause:
        subq    $16, %rsp
        movq    $0x14002, (%rsp)        # SIGINT (2), SIGTERM (15), SIGCHLD (17): signal n is bit n-1
        movl    $14, %eax               # rt_sigprocmask(SIG_BLOCK, set, NULL, 8)
        xorl    %edi, %edi
        movq    %rsp, %rsi
        xorl    %edx, %edx
        movl    $8, %r10d
        syscall
        jmp     2f                      # orphans may have died before the signal was blocked
1:      movl    $128, %eax              # rt_sigtimedwait(set, NULL, NULL, 8)
        movq    %rsp, %rdi
        xorl    %esi, %esi
        xorl    %edx, %edx
        movl    $8, %r10d
        syscall
        xorl    %edi, %edi              # status 0 for a signal that asks to end
        cmpl    $2, %eax
        je      3f
        cmpl    $15, %eax
        je      3f
        cmpl    $-4, %eax               # EINTR: stopped and continued
        je      1b
        movl    $1, %edi                # status 1 if the kernel refuses to wait: better than to spin
        testl   %eax, %eax
        js      3f
2:      movl    $61, %eax               # wait4(-1, NULL, WNOHANG, NULL) until no zombie is left
        movq    $-1, %rdi
        xorl    %esi, %esi
        movl    $1, %edx
        xorl    %r10d, %r10d
        syscall
        testl   %eax, %eax
        jg      2b
        jmp     1b
3:      movl    $231, %eax              # exit_group(status)
        syscall
ironkeel_pause_end:
