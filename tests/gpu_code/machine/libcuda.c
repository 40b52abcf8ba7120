/* What Triton calls of a CUDA driver, for launches without a device: it loads every kernel, runs
   none, and refuses the launches that a device refuses. */

#include <string.h>

#include "cuda.h"

/* Of the last launch that was not refused, and how many there were. */
unsigned last_grid[3];
unsigned last_block;
int launches;

static int attribute(CUdevice_attribute name) {
  switch (name) {
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: return 9;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: return 0;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK: return 48 * 1024;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN: return 227 * 1024;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR: return 228 * 1024;
    case CU_DEVICE_ATTRIBUTE_WARP_SIZE: return 32;
    default: return 1024;
  }
}

CUresult cuCtxGetCurrent(CUcontext *c) { *c = (CUcontext)1; return CUDA_SUCCESS; }
CUresult cuCtxSetCurrent(CUcontext c) { return CUDA_SUCCESS; }
CUresult cuCtxGetLimit(size_t *n, CUlimit which) { *n = 0; return CUDA_SUCCESS; }
CUresult cuCtxSetLimit(CUlimit which, size_t n) { return CUDA_SUCCESS; }
CUresult cuDeviceGet(CUdevice *device, int i) { *device = i; return CUDA_SUCCESS; }
CUresult cuDeviceGetAttribute(int *n, CUdevice_attribute name, CUdevice device) {
  *n = attribute(name);
  return CUDA_SUCCESS;
}
CUresult cuDevicePrimaryCtxRetain(CUcontext *c, CUdevice device) {
  *c = (CUcontext)1;
  return CUDA_SUCCESS;
}
CUresult cuDriverGetVersion(int *n) { *n = 12080; return CUDA_SUCCESS; }
CUresult cuFuncGetAttribute(int *n, CUfunction_attribute name, CUfunction f) {
  *n = name == CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK ? 1024 : 0;
  return CUDA_SUCCESS;
}
CUresult cuFuncSetAttribute(CUfunction f, CUfunction_attribute name, int n) { return CUDA_SUCCESS; }
CUresult cuFuncSetCacheConfig(CUfunction f, CUfunc_cache config) { return CUDA_SUCCESS; }
CUresult cuGetErrorString(CUresult error, const char **words) {
  *words = error == CUDA_ERROR_INVALID_VALUE ? "invalid argument" : "an error";
  return CUDA_SUCCESS;
}
CUresult cuModuleGetFunction(CUfunction *f, CUmodule m, const char *name) {
  *f = (CUfunction)1;
  return CUDA_SUCCESS;
}
CUresult cuModuleLoadData(CUmodule *m, const void *image) {
  if (memcmp(image, "\177ELF", 4)) return CUDA_ERROR_INVALID_IMAGE;
  *m = (CUmodule)1;
  return CUDA_SUCCESS;
}
CUresult cuOccupancyMaxActiveClusters(int *n, CUfunction f, const CUlaunchConfig *c) {
  *n = 1;
  return CUDA_SUCCESS;
}
CUresult cuPointerGetAttribute(void *data, CUpointer_attribute name, CUdeviceptr p) {
  *(CUdeviceptr *)data = p;
  return CUDA_SUCCESS;
}

CUresult cuLaunchKernelEx(const CUlaunchConfig *c, CUfunction f, void **values, void **extra) {
  if (c->gridDimX > 0x7FFFFFFF || c->gridDimY > 65535 || c->gridDimZ > 65535 ||
      c->blockDimX > 1024 || c->sharedMemBytes > 227 * 1024)
    return CUDA_ERROR_INVALID_VALUE;
  last_grid[0] = c->gridDimX;
  last_grid[1] = c->gridDimY;
  last_grid[2] = c->gridDimZ;
  last_block = c->blockDimX;
  launches += 1;
  return CUDA_SUCCESS;
}
