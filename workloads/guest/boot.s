# From PVH's 32-bit entry to ring 3, as few ring-0 instructions as can be: on hosts that virtualise page tables in
# software each of them is emulated. EBX holds the start info; a further vCPU enters at ap_entry with its number in ESI.

.section .note.pvh, "a", @note
    .balign 4
    .long 4, 8, 18              # XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .quad pvh_entry
    .long 9, 8, 1               # abi::NOTE_AP_ENTRY
    .asciz "migbench"
    .balign 4
    .quad ap_entry

.section .text.boot, "ax"
.code32
.global pvh_entry
pvh_entry:
    xor esi, esi
ap_entry:
    cld
    mov eax, cr4
    or eax, 0x620               # PAE, OSFXSR, OSXMMEXCPT
    mov cr4, eax
    mov eax, offset pml4
    mov cr3, eax
    mov ecx, 0xc0000080         # EFER
    rdmsr
    or eax, 0x100               # LME
    wrmsr
    mov eax, cr0
    and eax, 0xfffffff3         # EM, TS off
    or eax, 0x80000023          # PG, NE, MP, PE
    mov cr0, eax
    lgdt [gdt_pointer]
    ljmp 0x08, offset long_mode

.code64
long_mode:
    mov eax, 0x10
    mov ds, eax
    mov es, eax
    mov ss, eax
    mov r12d, ebx
    mov r13d, esi
    # XCR0: what the CPU has of x87, SSE, AVX and AVX-512
    mov eax, 1
    xor ecx, ecx
    cpuid
    bt ecx, 26                  # XSAVE
    jnc 1f
    mov rax, cr4
    or eax, 0x40000             # OSXSAVE
    mov cr4, rax
    mov eax, 13
    xor ecx, ecx
    cpuid
    and eax, 0xe7
    xor edx, edx
    xor ecx, ecx
    xsetbv
1:
    fninit
    # this vCPU's TSS, only for the stack of exceptions
    mov eax, r13d
    shl eax, 7
    add eax, offset tss
    mov ecx, r13d
    inc ecx
    shl ecx, 10
    add ecx, offset exception_stacks
    mov [rax + 4], rcx
    mov rsp, rcx
    mov edx, r13d
    shl edx, 4
    add edx, offset gdt_tss
    mov ecx, eax
    and ecx, 0xffffff
    shl rcx, 16
    shr eax, 24
    shl rax, 56
    or rax, rcx
    mov rcx, 0x0000890000000067
    or rax, rcx
    mov [rdx], rax
    mov eax, r13d
    shl eax, 4
    add eax, 0x28
    ltr ax
    lidt [idt_pointer]
    # to ring 3: IOPL 3, interrupts off
    mov edi, r12d
    mov esi, r13d
    mov eax, r13d
    inc eax
    shl eax, 16
    add eax, offset stacks - 8
    push 0x1b
    push rax
    push 0x3002
    push 0x23
    mov eax, offset guest_main
    push rax
    iretq

# Where a vCPU begins that the first one starts: in real mode, at the copy of this that it made. Its number is that of
# its local APIC.
.equ TRAMPOLINE, 0x8000
.global trampoline
.global trampoline_end
.code16
trampoline:
    cli
    xor ax, ax
    mov ds, ax
    .byte 0x0f, 0x01, 0x16      # lgdt [16 bit address]
    .word TRAMPOLINE + trampoline_gdt_pointer - trampoline
    mov eax, cr0
    or al, 1
    mov cr0, eax
    .byte 0x66, 0xea            # a far jump to 32-bit code
    .long TRAMPOLINE + trampoline_32 - trampoline
    .word 0x08
.code32
trampoline_32:
    mov eax, 0x10
    mov ds, eax
    mov es, eax
    mov ss, eax
    mov eax, 1
    cpuid
    shr ebx, 24
    mov esi, ebx
    xor ebx, ebx
    mov eax, offset ap_entry
    jmp eax
.balign 8
trampoline_gdt:
    .quad 0
    .quad 0x00cf9b000000ffff    # 08 ring 0 code, 32 bit
    .quad 0x00cf93000000ffff    # 10 ring 0 data
trampoline_gdt_pointer:
    .word . - trampoline_gdt - 1
    .long TRAMPOLINE + trampoline_gdt - trampoline
trampoline_end:
.code64

# Exceptions of ring 3 return to ring 3, to fault_main(vector, error, rip, cr2).
fault_common:
    pop rdi
    pop rsi
    pop rdx
    mov rcx, cr2
    and qword ptr [rsp + 16], -16
    sub qword ptr [rsp + 16], 1032
    mov eax, offset fault_main
    push rax
    iretq

.altmacro
.macro fault_stub vector
fault_\vector:
    .if (\vector == 8) || ((\vector >= 10) && (\vector <= 14)) || (\vector == 17) || (\vector == 21) || (\vector == 29) || (\vector == 30)
    .else
    push 0
    .endif
    push \vector
    jmp fault_common
.endm
.macro fault_entry vector
    .quad fault_\vector
.endm
.set n, 0
.rept 32
    fault_stub %n
    .set n, n + 1
.endr

.section .rodata.boot, "a"
.global fault_entries
.balign 8
fault_entries:
.set n, 0
.rept 32
    fault_entry %n
    .set n, n + 1
.endr

.section .data.boot, "aw"
.balign 16
gdt:
    .quad 0
    .quad 0x00af9b000000ffff    # 08 ring 0 code, 64 bit
    .quad 0x00cf93000000ffff    # 10 ring 0 data
    .quad 0x00cff3000000ffff    # 18 ring 3 data
    .quad 0x00affb000000ffff    # 20 ring 3 code, 64 bit
gdt_tss:
    .fill 2 * 32, 8, 0          # 28 and on: a TSS per vCPU
gdt_end:
gdt_pointer:
    .word gdt_end - gdt - 1
    .quad gdt
idt_pointer:
    .word 32 * 16 - 1
    .quad idt

# The first GiB in 2 MiB pages, present, writable, for ring 3; the program maps the rest before it touches it.
.balign 4096

pml4:
    .quad pdpt + 7
    .fill 511, 8, 0
.global pdpt
pdpt:
    .quad pd + 7
    .fill 511, 8, 0
pd:
.set n, 0
.rept 512
    .quad n * 0x200000 + 0x87
    .set n, n + 1
.endr

.section .bss.boot, "aw", @nobits
.balign 4096
.global idt
idt:
    .skip 4096
tss:
    .skip 32 * 128
exception_stacks:
    .skip 32 * 1024
stacks:
    .skip 32 * 65536
