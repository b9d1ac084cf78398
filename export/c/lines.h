/* Observations in, actions out: one a line, numbers apart by blanks. As run_policy.py does it. */
#ifndef TFSAC_LINES_H
#define TFSAC_LINES_H

#include <ctype.h>
#include <math.h> /* NAN */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Returns 0 if action holds the answer. In steps, anything else says that action holds the safe one. */
typedef int (*act_function)(void *policy, const float *observation, float *action);

/* A word as a finite float, or 0 for one that is none. */
static int read_number(const char *word, float *number)
{
    char *end;
    *number = strtof(word, &end);
    /* x - x is NaN for NaN and infinity, which "1e99" becomes, too. */
    return end != word && *end == '\0' && *number - *number <= 0.0f;
}

/* Answers standard input to its end. A line that cannot be answered leaves one on standard error and nothing else; in
 * steps it counts as failed sensors, NaN, and is answered with the safe action, too.
 *
 * observation, action: room for observation_dim and action_dim numbers.
 * in_steps: whether the policy remembers and each line is a step of the machine.
 * Returns the exit status: 1 if some line could not be answered, or had the safe action. */
static int act_on_lines(size_t observation_dim, size_t action_dim, float *observation, float *action, act_function act,
                        void *policy, int in_steps)
{
    const char *const cure = in_steps ? ": the safe action is commanded" : "";
    char word[64]; /* longer than any float that someone means */
    size_t length = 0;
    size_t count = 0;
    size_t bad = 0; /* the first word of the line that is no finite number, counted from 1 */
    unsigned long line = 1;
    int status = 0;
    int empty = 1; /* nothing since the last line's end: at the end of the input that is no line */

    for (;;) {
        const int c = getchar();
        if (c == EOF && empty) return status;
        empty = 0;
        if (c != EOF && !isspace(c)) {
            if (length < sizeof word) word[length++] = (char)c;
            /* The byte order mark that some programs write first is no part of a number. */
            if (line == 1 && count == 0 && length == 3 && memcmp(word, "\xef\xbb\xbf", 3) == 0) length = 0;
            continue;
        }
        if (length > 0) {
            float number = 0.0f;
            const int fits = length < sizeof word;
            word[fits ? length : 0] = '\0';
            if (!read_number(word, &number) && bad == 0) bad = count + 1;
            if (count < observation_dim) observation[count] = number;
            count++;
            length = 0;
        }
        if (c != EOF && c != '\n') continue;

        int garbled = 1;
        if (bad != 0) {
            fprintf(stderr, "line %lu: number %lu is none, or not finite%s\n", line, (unsigned long)bad, cure);
        } else if (count != observation_dim) {
            fprintf(stderr, "line %lu: expected %lu numbers, received %lu%s\n", line, (unsigned long)observation_dim,
                    (unsigned long)count, cure);
        } else {
            garbled = 0;
        }
        for (size_t i = 0; garbled && i < observation_dim; i++) observation[i] = NAN;
        const int fault = garbled && !in_steps ? 1 : act(policy, observation, action);
        if (fault != 0) status = 1;
        if (fault != 0 && !garbled) {
            fprintf(stderr, "line %lu: the %s failed, status %d%s\n", line, in_steps ? "sensors" : "policy", fault, cure);
        }
        if (fault == 0 || in_steps) {
            for (size_t j = 0; j < action_dim; j++) printf(j ? " %.9g" : "%.9g", (double)action[j]);
            putchar('\n');
            fflush(stdout); /* whoever waits at the other end of a pipe acts on it now */
        }
        count = bad = 0;
        line++;
        empty = 1;
        if (c == EOF) return status;
    }
}

#endif
