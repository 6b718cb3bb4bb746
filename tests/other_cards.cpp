// Preloaded before a HIP runtime: makes other cards of its devices, as machines have them that mix cards.
//   OTHER_ARCHITECTURES=gfx90a,gfx1036   their gcnArchName
//   OTHER_MEMORY=8589934592,67108864     their memory, all of it free; 0: the runtime cannot tell
//   OTHER_NO_CODE=1                      the device that the program holds no code for
//   OTHER_COUNT=0                        the runtime finds none
#define __HIP_PLATFORM_AMD__
#include <hip/hip_runtime_api.h>

#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace {

template <class Function>
Function *real(const char *name) {
  return (Function *)dlsym(RTLD_NEXT, name);
}

// Word `device` of a variable's list; empty if there is none.
std::string word_of(const char *variable, int device) {
  const char *text = getenv(variable);
  for (int i = 0; text && i < device; i++)
    if ((text = strchr(text, ','))) text++;
  return text ? std::string(text, strcspn(text, ",")) : "";
}

int current() {
  int device = 0;
  (void)hipGetDevice(&device);
  return device;
}

}  // namespace

extern "C" {

hipError_t hipGetDeviceCount(int *count) {
  if (getenv("OTHER_COUNT")) return hipErrorNoDevice;
  return real<hipError_t(int *)>("hipGetDeviceCount")(count);
}

hipError_t hipGetDeviceProperties(hipDeviceProp_t *properties, int device) {
  const hipError_t error = real<hipError_t(hipDeviceProp_t *, int)>("hipGetDeviceProperties")(properties, device);
  const std::string name = word_of("OTHER_ARCHITECTURES", device);
  if (!name.empty()) snprintf(properties->gcnArchName, sizeof properties->gcnArchName, "%s", name.c_str());
  return error;
}

hipError_t hipMemGetInfo(size_t *free_bytes, size_t *total) {
  const hipError_t error = real<hipError_t(size_t *, size_t *)>("hipMemGetInfo")(free_bytes, total);
  const std::string bytes = word_of("OTHER_MEMORY", current());
  if (!bytes.empty()) *free_bytes = *total = strtoull(bytes.c_str(), nullptr, 10);
  return bytes == "0" ? hipErrorInvalidValue : error;
}

hipError_t hipFuncGetAttributes(hipFuncAttributes *attributes, const void *function) {
  if (getenv("OTHER_NO_CODE") && atoi(getenv("OTHER_NO_CODE")) == current()) return hipErrorNoBinaryForGpu;
  return real<hipError_t(hipFuncAttributes *, const void *)>("hipFuncGetAttributes")(attributes, function);
}

}  // extern "C"
