/* Runs policy.h: observations from standard input, one a line, actions to standard output.
 *
 *     run_header             answers
 *     run_header --selftest  runs the golden vectors; exit status 1 if one fails */
#define TFSAC_POLICY_GOLDEN
#include "lines.h"
#include "policy.h"

#include <string.h>

static int act(void *policy, const float *observation, float *action)
{
    (void)policy;
    tfsac_policy_act(observation, action);
    return 0;
}

int main(int argc, char **argv)
{
    static float observation[TFSAC_OBSERVATION_DIM];
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
    return act_on_lines(TFSAC_OBSERVATION_DIM, TFSAC_ACTION_DIM, observation, action, act, NULL);
}
