/* Runs policy.h: observations from standard input, one a line, actions to standard output.
 *
 *     run_header             answers; if the policy remembers, a line is what the sensors give now, and a step
 *     run_header --selftest  runs the golden vectors; exit status 1 if one fails */
#define TFSAC_POLICY_GOLDEN
#include "lines.h"
#include "policy.h"

#include <string.h>

#ifdef TFSAC_SENSOR_DIM
#define NUMBERS TFSAC_SENSOR_DIM
static tfsac_policy_state memory;

static int act(void *state, const float *sensors, float *action)
{
    return (int)tfsac_policy_step(state, sensors, 0.0f, action); /* how late a line comes, C99 cannot tell */
}
#else
#define NUMBERS TFSAC_OBSERVATION_DIM

static int act(void *policy, const float *observation, float *action)
{
    (void)policy;
    tfsac_policy_act(observation, action);
    return 0;
}
#endif

int main(int argc, char **argv)
{
    static float observation[NUMBERS];
    static float action[TFSAC_ACTION_DIM];

    if (argc == 2 && strcmp(argv[1], "--selftest") == 0) {
        const int failures = tfsac_policy_selftest();
        printf("%s: %d golden vectors, %d failures, allowed error %.0e of the span\n", failures ? "FAILED" : "passed",
               TFSAC_POLICY_GOLDEN_COUNT, failures, (double)TFSAC_POLICY_GOLDEN_TOLERANCE);
        return failures ? 1 : 0;
    }
    if (argc != 1) {
        fprintf(stderr, "usage: %s [--selftest]\n", argv[0]);
        return 2;
    }
#ifdef TFSAC_SENSOR_DIM
    tfsac_policy_reset(&memory);
    return act_on_lines(NUMBERS, TFSAC_ACTION_DIM, observation, action, act, &memory, 1);
#else
    return act_on_lines(NUMBERS, TFSAC_ACTION_DIM, observation, action, act, NULL, 0);
#endif
}
