/* Runs the golden vectors of policy.h on a Cortex-M4F and measures the stack that one action takes.
 *
 * Made for QEMU (make check_cortex_m4), where it speaks through semihosting; so it does on a board with a debugger
 * attached that serves semihosting. An emulator shows that the answers are right, never how fast they come. */
#define TFSAC_POLICY_GOLDEN
#include "policy.h"

#include <stdint.h>

/* From cortex_m4.ld. */
extern uint32_t data_begin[], data_end[], data_image[], bss_begin[], bss_end[], stack_begin[], stack_end[];

static void semihosting(uint32_t operation, const void *argument)
{
    register uint32_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
}

static void print(const char *text) { semihosting(0x04, text); }

static void print_number(uint32_t number)
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

static __attribute__((noinline)) void act(const float *observation, float *action)
{
    tfsac_policy_act(observation, action);
}

/* Bytes of stack that one action takes: all below here is painted, and the lowest blot tells how far it went. */
static uint32_t stack_of_one_action(void)
{
    static float observation[TFSAC_OBSERVATION_DIM];
    static float action[TFSAC_ACTION_DIM];
    const uint32_t paint = 0x5ac5ac5au;
    volatile uint32_t *here;
    volatile uint32_t *lowest = stack_end;

    __asm__ volatile("mov %0, sp" : "=r"(here));
    for (volatile uint32_t *p = stack_end; p < here; p++) *p = paint;
    act(observation, action);
    while (*lowest == paint) lowest++;
    return (uint32_t)((uintptr_t)here - (uintptr_t)lowest);
}

static __attribute__((noinline)) int run(void)
{
    const int failures = tfsac_policy_selftest();
    print(failures ? "FAILED: " : "passed: ");
    print_number(TFSAC_POLICY_GOLDEN_COUNT);
    print(" golden vectors, ");
    print_number((uint32_t)failures);
    print(" failures, stack ");
    print_number(stack_of_one_action());
    print(" bytes\n");
    return failures ? 1 : 0;
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
