"""The kinds of work that `bench --profile` tells apart."""

import pytest
import torch
from torch import nn

from diffsmooth.models import IdentityPurifier, LocalSmoothing, build_classifier, build_denoiser
from diffsmooth.models.smoothing.purifiers import OneShotPurifier
from diffsmooth.models.smoothing.vote_function import VoteFunction
from diffsmooth.pipeline.bench_profile import ORDER, kind_of, milliseconds_by_kind
from diffsmooth.pipeline.work_of_a_batch import flops_a_vote

CONVOLUTION, PRODUCT, NORM, COPY, ELEMENTWISE, NOISE, REST = ORDER
NATIVE = "void at::native::"


@pytest.mark.parametrize(("name", "kind"), [
    # As an H100 was seen to name them.
    ("void cutlass__5x_cudnn::Kernel<cutlass_tensorop_bf16_s16816fprop_optimized_bf16_256x64_32x4_"
     "nhwc_align8>(cutla", CONVOLUTION),
    ("sm90_xmma_fprop_implicit_gemm_bf16bf16_bf16f32_f32_nhwckrsc_nhwc_tilesize128x128x64_"
     "warpgroupsize1x1x1_g1_exec", CONVOLUTION),
    ("nvjet_sm90_tst_192x192_64x4_2x1_v_bz_coopB_TNN", PRODUCT),
    ("cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob_7_64x128x64_4x1x1_cga1x1x1_"
     "kernel0_0", PRODUCT),
    (f"{NATIVE}(anonymous namespace)::RowwiseMomentsCUDAKernel<float>(long, float, float", NORM),
    (f"{NATIVE}elementwise_kernel<128, 2, at::native::gpu_kernel_impl_nocast<at::native::"
     "(anonymous namespace)::GroupNormKernelImplInternal", NORM),
    (f"{NATIVE}elementwise_kernel<128, 2, at::native::gpu_kernel_impl_nocast<at::native::"
     "direct_copy_kernel_", COPY),
    (f"{NATIVE}vectorized_elementwise_kernel<8, at::native::bfloat16_copy_kernel_cuda(at::T", COPY),
    (f"{NATIVE}(anonymous namespace)::CatArrayBatchedCopy_alignedK_contig<at::native::", COPY),
    ("Memcpy HtoD (Pinned -> Device)", COPY),
    (f"{NATIVE}elementwise_kernel<128, 4, at::native::gpu_kernel_impl_nocast<at::native::"
     "CUDAFunctor_add<c10", ELEMENTWISE),
    (f"{NATIVE}vectorized_elementwise_kernel<4, at::native::(anonymous namespace)::silu_kernel(at::"
     "TensorIte", ELEMENTWISE),
    ("triton_poi_fused_add_convolution_relu_2", ELEMENTWISE),
    ("triton_red_fused__to_copy_clone_convolution_native_group_norm_1", NORM),
    ("triton_poi_fused__to_copy_add_clone_convolution_mul_native_group_norm_select_silu_split_3",
     NORM),
    # By inductor's naming and cuDNN's.
    ("triton_tem_fused_convolution_7", CONVOLUTION),
    ("triton_tem_fused_addmm_2", PRODUCT),
    ("triton_poi_fused__to_copy_clone_4", COPY),
    ("void cudnn::ops::nchwToNhwcKernel<__nv_bfloat16", COPY),
    # Of a CPU.
    ("aten::mkldnn_convolution", CONVOLUTION),
    ("mkldnn::_convolution_pointwise", CONVOLUTION),
    ("aten::addmm", PRODUCT),
    ("aten::_scaled_dot_product_flash_attention_for_cpu", PRODUCT),
    ("aten::native_batch_norm", NORM),
    ("aten::copy_", COPY),
    ("aten::leaky_relu_", ELEMENTWISE),
    ("aten::empty", REST),
    ("aten::view", REST),
])  # fmt: skip
def test_a_kind_by_its_name(name: str, kind: str) -> None:
    assert kind_of(name) == kind


def test_where_the_time_of_a_vote_goes() -> None:
    classifier = nn.Sequential(nn.Conv2d(1, 64, 7), nn.Flatten(), nn.Linear(64 * 26**2, 3))
    local = LocalSmoothing(classifier, m=2, image_shape=(1, 32, 32))
    f = VoteFunction(IdentityPurifier(), local, 0.5, 3, batch=8)
    found = milliseconds_by_kind(f, "integer", torch.full((1, 32, 32), 0.5))
    assert tuple(found) == ORDER
    assert all(milliseconds >= 0 for milliseconds in found.values())
    assert min(found[kind] for kind in (CONVOLUTION, PRODUCT, COPY, NOISE)) > 0
    assert found[NORM] == 0


@pytest.mark.slow
def test_the_imagenet_pair_is_as_large_as_it_says() -> None:
    """An H100's counter gave 1,713 GFLOP for the U-Net, and 616 for five copies."""
    with torch.device("meta"):
        denoiser = build_denoiser("guided-imagenet")
        classifier = build_classifier("beit_large_patch16_224", 1000, dataset="imagenet")
    assert sum(p.numel() for p in denoiser.parameters()) == 552_814_086
    local = LocalSmoothing(classifier, 5, 0.25, (3, 224, 224))
    f = VoteFunction(OneShotPurifier(denoiser), local, 0.5, 1000, 1, copy=False)
    flops = flops_a_vote(f)
    assert flops == pytest.approx(2.329e12, rel=0.02)  # less some attention, which a CPU has fused
