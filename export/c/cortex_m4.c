/* Runs the golden vectors of policy.h on a Cortex-M4F, its fail-safe where the policy remembers, and measures the stack
 * that one action takes.
 *
 * Made for QEMU (make check_cortex_m4). An emulator shows that the answers are right, never how fast they come. */
#define TFSAC_POLICY_GOLDEN
#include "cortex_m4.h"
#include "policy.h"

static void act(void)
{
    static float observation[TFSAC_OBSERVATION_DIM];
    static float action[TFSAC_ACTION_DIM];
    tfsac_policy_act(observation, action);
}

#ifdef TFSAC_SENSOR_DIM /* the policy remembers */
#include "faults.h"
#endif

static __attribute__((noinline)) int run(void)
{
    int failures = tfsac_policy_selftest();
    print(failures ? "FAILED: " : "passed: ");
    print_number(TFSAC_POLICY_GOLDEN_COUNT);
    print(" golden vectors, ");
    print_number((uint32_t)failures);
    print(" failures, stack ");
    print_number(stack_of(act));
    print(" bytes\n");
#ifdef TFSAC_SENSOR_DIM
    const int unsafe = tfsac_policy_unsafe_faults();
    print(unsafe ? "FAILED: " : "passed: ");
    print_number(TFSAC_POLICY_FAULTS);
    print(" faults, not safe within one period: ");
    print_number((uint32_t)unsafe);
    print("\n");
    failures += unsafe;
#endif
    return failures ? 1 : 0;
}
