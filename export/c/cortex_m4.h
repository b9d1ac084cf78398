/* What a program needs that runs on a bare Cortex-M4F: its start, its end, and words through semihosting.
 *
 * Made for QEMU (-M mps2-an386 -semihosting); so it does on a board with a debugger attached that serves semihosting.
 * Whoever includes this writes `static int run(void)`, whose answer is the program's exit status. */
#ifndef TFSAC_CORTEX_M4_H
#define TFSAC_CORTEX_M4_H

#include <stdint.h>

/* From cortex_m4.ld. */
extern uint32_t data_begin[], data_end[], data_image[], bss_begin[], bss_end[], stack_begin[], stack_end[];

static int run(void);

static void semihosting(uint32_t operation, const void *argument)
{
    register uint32_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
}

static inline void print(const char *text) { semihosting(0x04, text); }

static inline void print_number(uint32_t number)
{
    char digits[11];
    char *end = digits + sizeof digits - 1;
    *end = '\0';
    do *--end = (char)('0' + number % 10);
    while (number /= 10);
    print(end);
}

static void leave(int status)
{
    /* ADP_Stopped_ApplicationExit, or RunTimeErrorUnknown, which makes QEMU's exit status 1 */
    semihosting(0x18, (const void *)(uintptr_t)(status ? 0x20023 : 0x20026));
    for (;;) {}
}

/* Bytes of stack that a call takes: all below here is painted, and the lowest blot tells how far it went. */
static __attribute__((noinline, unused)) uint32_t stack_of(void (*call)(void))
{
    const uint32_t paint = 0x5ac5ac5au;
    volatile uint32_t *here;
    volatile uint32_t *lowest = stack_end;

    __asm__ volatile("mov %0, sp" : "=r"(here));
    for (volatile uint32_t *p = stack_end; p < here; p++) *p = paint;
    call();
    while (*lowest == paint) lowest++;
    return (uint32_t)((uintptr_t)here - (uintptr_t)lowest);
}

void reset(void);
void reset(void)
{
    uint32_t *from = data_image;
    *(volatile uint32_t *)0xe000ed88 |= 0xfu << 20; /* CPACR: the floating-point unit is off after a reset */
    __asm__ volatile("dsb\n isb" ::: "memory");
    for (uint32_t *to = data_begin; to < data_end; to++) *to = *from++;
    for (uint32_t *to = bss_begin; to < bss_end; to++) *to = 0;
    leave(run());
}

static void fault(void)
{
    print("FAILED: the processor met a fault\n");
    leave(1);
}

/* What the processor reads first: where the stack begins, where to start, and what to do about faults. */
static const struct {
    uint32_t *stack;
    void (*handlers[6])(void);
} vectors __attribute__((section(".vectors"), used)) = {stack_begin, {reset, fault, fault, fault, fault, fault}};

#endif
