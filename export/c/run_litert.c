/* Runs a .tflite policy on LiteRT: observations from standard input, one a line, actions to standard output.
 *
 *     run_litert POLICY.tflite
 *
 * libLiteRt.so comes with the Python wheel ai-edge-litert, which ships no headers: what is used of it is declared here
 * as in LiteRT 2.3.0, for 64-bit machines. */
#include "lines.h"

#include <stdint.h>
#include <string.h>

typedef int LiteRtStatus; /* 0: all is well */
typedef struct LiteRtEnvironmentT *LiteRtEnvironment;
typedef struct LiteRtModelT *LiteRtModel;
typedef struct LiteRtSignatureT *LiteRtSignature;
typedef struct LiteRtTensorT *LiteRtTensor;
typedef struct LiteRtOptionsT *LiteRtOptions;
typedef struct LiteRtCompiledModelT *LiteRtCompiledModel;
typedef struct LiteRtTensorBufferRequirementsT *LiteRtTensorBufferRequirements;
typedef struct LiteRtTensorBufferT *LiteRtTensorBuffer;

typedef struct {
    int32_t tag;
    struct {
        int32_t type;
        int64_t integer; /* a union there */
    } value;
} LiteRtEnvOption;

typedef struct {
    int32_t element_type;
    uint32_t rank_and_flags; /* two bit-fields there; the lowest 7 bits are the rank */
    int32_t dimensions[8];
    uint32_t strides[8];
} LiteRtRankedTensorType;

enum {
    kLiteRtEnvOptionTagAutoRegisterAccelerators = 24,
    kLiteRtEnvOptionTagMinLoggerSeverity = 25,
    kLiteRtAnyTypeInt = 2,
    kLiteRtLogSeverityWarning = 2,
    kLiteRtHwAcceleratorCpu = 1,
    kLiteRtElementTypeFloat32 = 1,
    kLiteRtTensorBufferLockModeRead = 0,
    kLiteRtTensorBufferLockModeWrite = 1
};

LiteRtStatus LiteRtCreateEnvironment(int count, const LiteRtEnvOption *options, LiteRtEnvironment *environment);
LiteRtStatus LiteRtCreateModelFromFile(LiteRtEnvironment environment, const char *path, LiteRtModel *model);
LiteRtStatus LiteRtGetNumModelSignatures(LiteRtModel model, size_t *count);
LiteRtStatus LiteRtGetModelSignature(LiteRtModel model, size_t index, LiteRtSignature *signature);
LiteRtStatus LiteRtGetNumSignatureInputs(LiteRtSignature signature, size_t *count);
LiteRtStatus LiteRtGetNumSignatureOutputs(LiteRtSignature signature, size_t *count);
LiteRtStatus LiteRtGetSignatureInputTensorByIndex(LiteRtSignature signature, size_t index, LiteRtTensor *tensor);
LiteRtStatus LiteRtGetSignatureOutputTensorByIndex(LiteRtSignature signature, size_t index, LiteRtTensor *tensor);
LiteRtStatus LiteRtGetRankedTensorType(LiteRtTensor tensor, LiteRtRankedTensorType *type);
LiteRtStatus LiteRtCreateOptions(LiteRtOptions *options);
LiteRtStatus LiteRtSetOptionsHardwareAccelerators(LiteRtOptions options, int accelerators);
LiteRtStatus LiteRtCreateCompiledModel(LiteRtEnvironment environment, LiteRtModel model, LiteRtOptions options,
                                       LiteRtCompiledModel *compiled);
LiteRtStatus LiteRtGetCompiledModelInputBufferRequirements(LiteRtCompiledModel compiled, size_t signature, size_t index,
                                                           LiteRtTensorBufferRequirements *requirements);
LiteRtStatus LiteRtGetCompiledModelOutputBufferRequirements(LiteRtCompiledModel compiled, size_t signature,
                                                            size_t index, LiteRtTensorBufferRequirements *requirements);
LiteRtStatus LiteRtCreateManagedTensorBufferFromRequirements(LiteRtEnvironment environment,
                                                             const LiteRtRankedTensorType *type,
                                                             LiteRtTensorBufferRequirements requirements,
                                                             LiteRtTensorBuffer *buffer);
LiteRtStatus LiteRtLockTensorBuffer(LiteRtTensorBuffer buffer, void **memory, int mode);
LiteRtStatus LiteRtUnlockTensorBuffer(LiteRtTensorBuffer buffer);
LiteRtStatus LiteRtRunCompiledModel(LiteRtCompiledModel compiled, size_t signature, size_t input_count,
                                    LiteRtTensorBuffer *inputs, size_t output_count, LiteRtTensorBuffer *outputs);
void LiteRtDestroyTensorBuffer(LiteRtTensorBuffer buffer);
void LiteRtDestroyCompiledModel(LiteRtCompiledModel compiled);
void LiteRtDestroyOptions(LiteRtOptions options);
void LiteRtDestroyModel(LiteRtModel model);
void LiteRtDestroyEnvironment(LiteRtEnvironment environment);

typedef struct {
    LiteRtEnvironment environment;
    LiteRtModel model;
    LiteRtOptions options;
    LiteRtCompiledModel compiled;
    LiteRtTensorBuffer input, output;
    size_t observation_dim, action_dim;
} Policy;

/* The length of a float32 vector [1, n], or 0 for any other tensor. */
static size_t vector_length(const LiteRtRankedTensorType *type)
{
    size_t length = 1;
    if (type->element_type != kLiteRtElementTypeFloat32) return 0;
    for (uint32_t i = 0; i < (type->rank_and_flags & 0x7f); i++) {
        if (type->dimensions[i] < 1) return 0; /* -1: not fixed */
        length *= (size_t)type->dimensions[i];
    }
    return length;
}

/* Returns NULL, or what went wrong. */
static const char *load(const char *path, Policy *policy)
{
    /* The CPU alone: by default LiteRT also loads a GPU library, which aborts on older ARM cores. */
    const LiteRtEnvOption options[] = {
        {kLiteRtEnvOptionTagAutoRegisterAccelerators, {kLiteRtAnyTypeInt, kLiteRtHwAcceleratorCpu}},
        {kLiteRtEnvOptionTagMinLoggerSeverity, {kLiteRtAnyTypeInt, kLiteRtLogSeverityWarning}},
    };
    LiteRtSignature signature;
    LiteRtTensor observation, action;
    LiteRtRankedTensorType observation_type, action_type;
    LiteRtTensorBufferRequirements requirements;
    size_t signatures = 0, inputs = 0, outputs = 0;

    if (LiteRtCreateEnvironment(2, options, &policy->environment)) return "LiteRT does not start";
    if (LiteRtCreateModelFromFile(policy->environment, path, &policy->model)) return "not a readable .tflite file";
    if (LiteRtGetNumModelSignatures(policy->model, &signatures) || signatures != 1
        || LiteRtGetModelSignature(policy->model, 0, &signature)
        || LiteRtGetNumSignatureInputs(signature, &inputs) || inputs != 1
        || LiteRtGetNumSignatureOutputs(signature, &outputs) || outputs != 1
        || LiteRtGetSignatureInputTensorByIndex(signature, 0, &observation)
        || LiteRtGetRankedTensorType(observation, &observation_type)
        || LiteRtGetSignatureOutputTensorByIndex(signature, 0, &action)
        || LiteRtGetRankedTensorType(action, &action_type)
        || !(policy->observation_dim = vector_length(&observation_type))
        || !(policy->action_dim = vector_length(&action_type)))
        return "expected one signature from one observation to one action, both float32 of fixed size";

    if (LiteRtCreateOptions(&policy->options)
        || LiteRtSetOptionsHardwareAccelerators(policy->options, kLiteRtHwAcceleratorCpu)
        || LiteRtCreateCompiledModel(policy->environment, policy->model, policy->options, &policy->compiled)
        || LiteRtGetCompiledModelInputBufferRequirements(policy->compiled, 0, 0, &requirements)
        || LiteRtCreateManagedTensorBufferFromRequirements(policy->environment, &observation_type, requirements,
                                                           &policy->input)
        || LiteRtGetCompiledModelOutputBufferRequirements(policy->compiled, 0, 0, &requirements)
        || LiteRtCreateManagedTensorBufferFromRequirements(policy->environment, &action_type, requirements,
                                                           &policy->output))
        return "LiteRT cannot run it";
    return NULL;
}

static void unload(Policy *policy)
{
    if (policy->output) LiteRtDestroyTensorBuffer(policy->output);
    if (policy->input) LiteRtDestroyTensorBuffer(policy->input);
    if (policy->compiled) LiteRtDestroyCompiledModel(policy->compiled);
    if (policy->options) LiteRtDestroyOptions(policy->options);
    if (policy->model) LiteRtDestroyModel(policy->model);
    if (policy->environment) LiteRtDestroyEnvironment(policy->environment);
}

static int act(void *context, const float *observation, float *action)
{
    Policy *policy = context;
    void *memory;

    if (LiteRtLockTensorBuffer(policy->input, &memory, kLiteRtTensorBufferLockModeWrite)) return 1;
    memcpy(memory, observation, policy->observation_dim * sizeof *observation);
    if (LiteRtUnlockTensorBuffer(policy->input)) return 1;
    if (LiteRtRunCompiledModel(policy->compiled, 0, 1, &policy->input, 1, &policy->output)) return 1;
    if (LiteRtLockTensorBuffer(policy->output, &memory, kLiteRtTensorBufferLockModeRead)) return 1;
    memcpy(action, memory, policy->action_dim * sizeof *action);
    return LiteRtUnlockTensorBuffer(policy->output);
}

int main(int argc, char **argv)
{
    Policy policy = {0};
    const char *fault;
    float *numbers;
    int status = 2;

    if (argc != 2) {
        fprintf(stderr, "usage: %s POLICY.tflite\n", argv[0]);
        return 2;
    }
    fault = load(argv[1], &policy);
    if (fault) {
        fprintf(stderr, "error: %s: %s\n", argv[1], fault);
    } else {
        numbers = malloc((policy.observation_dim + policy.action_dim) * sizeof *numbers);
        if (numbers) {
            status = act_on_lines(policy.observation_dim, policy.action_dim, numbers, numbers + policy.observation_dim,
                                  act, &policy, 0);
            free(numbers);
        }
    }
    unload(&policy);
    return status;
}
