# ---
# jupyter:
#   jupytext:
#     formats: ipynb,text//py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Exercise 05 · The mask decoder and the whole model
#
# *Belongs to [lesson 05](../notebooks/05_decoder_and_shnet.ipynb) · four exercises · 60 minutes*
#
# Write what is missing and run the check under it. A check tries your function on fresh random inputs each time; if it fails it says how, and where the answer is a map or a mask it draws what was wanted beside yours. The fold-outs go from a hint to the whole solution.

# %%
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shnet_course.checks import check

# %% [markdown]
# ## A kernel with holes
#
# *Difficulty: medium · 15 minutes · section 3.4: the 3 x 3 branches of ASPP*
#
# A thing may be larger than a kernel. Each of ASPP's 3 x 3 branches therefore reads nine pixels that lie $r$ apart, the *rate*. With $c$ for the channels that come in and $o$ for those that go out:
#
# $$y_o[p] = \sum_{c} \sum_{a=-1}^{1} \sum_{b=-1}^{1} w_{oc}[a, b] \; x_c[p + r\,(a, b)]$$
#
# Beyond the border it reads 0, and the map keeps its size. PyTorch has an option for the holes (it is called `dilation`). Write it without.


# %%
def atrous(context: Tensor, kernel: Tensor, rate: int) -> Tensor:
    """A 3 x 3 convolution with holes; the map keeps its size.

    Args:
        context: (B, C, H, W).
        kernel: (C', C, 3, 3). Row 0 of it is a = -1, above the pixel; column 0 is b = -1.
        rate: r, how many cells neighbouring taps are apart; 1 is the usual convolution.

    Returns:
        (B, C', H, W).
    """
    ### BEGIN SOLUTION: pad with zeros, shift nine times, add up
    height, width = context.shape[-2:]
    padded = F.pad(context, [rate] * 4)  # (B, C, H + 2r, W + 2r)
    result = 0
    for row in range(3):
        for column in range(3):
            top, left = row * rate, column * rate
            shifted = padded[:, :, top : top + height, left : left + width]  # (B, C, H, W)
            result = result + torch.einsum("bchw,oc->bohw", shifted, kernel[:, :, row, column])
    return result
    ### END SOLUTION


# %% tags=["check"]
check("a kernel with holes", atrous)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# `F.pad(context, [rate] * 4)` puts `rate` zeros on all four sides. What a tap reads, for all pixels at once, is then a window of the size H x W cut out of the padded map. Where does the window of the tap `kernel[:, :, 0, 0]` begin, and where that of the middle one?
#
# </details>

# %% [markdown]
# <details><summary>Hint 2</summary>
#
# The tap in row `row` and column `column` of the kernel reads the window that begins at (`row * rate`, `column * rate`). It mixes channels: each window is (B, C, H, W) and each tap a matrix (C', C). `torch.einsum("bchw,oc->bohw", window, tap)` multiplies the two, and so does `F.conv2d(window, tap[:, :, None, None])`.
#
# </details>

# %% [markdown]
# <details><summary>It fails with "your map is wrapped around"</summary>
#
# `torch.roll` brings in on one side what leaves on the other. Here zeros come in.
#
# </details>

# %% [markdown]
# <details><summary>It fails with "your kernel is turned round"</summary>
#
# The tap with $a = -1$ reads the pixel *above*. If you shift the map instead of cutting a window, the map has to move *down* for that.
#
# </details>

# %% [markdown]
# ## Enlarge, then decide
#
# *Difficulty: easy · 10 minutes · sections 3.4 and 4.1: from logits to a mask of the photo's size*
#
# The network gives S x S logits, the photo has H x W pixels. What is the mask? A pixel belongs to it if its probability is above 0.5. Probabilities are what is enlarged: bilinearly, middles of pixels on middles of pixels, as the photo was made small. Decide last.


# %%
def mask_of(mask_logits: Tensor, height: int, width: int) -> Tensor:
    """The masks that logits mean, at the size of the photo.

    Args:
        mask_logits: (B, S, S) float.
        height, width: H and W of the photo.

    Returns:
        (B, H, W) bool.
    """
    ### BEGIN SOLUTION: probabilities, enlarged, and then the decision
    probability = mask_logits.sigmoid().unsqueeze(1)  # (B, 1, S, S)
    enlarged = F.interpolate(
        probability, size=(height, width), mode="bilinear", align_corners=False
    )  # (B, 1, H, W)
    return enlarged.squeeze(1) > 0.5
    ### END SOLUTION


# %% tags=["check"]
check("enlarge, then decide", mask_of)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Three steps in this order: sigmoid, `F.interpolate`, `> 0.5`.
#
# </details>

# %% [markdown]
# <details><summary>Hint 2</summary>
#
# `F.interpolate(x, size=(H, W), mode="bilinear", align_corners=False)` wants an axis for channels: (B, 1, S, S). `unsqueeze(1)` makes it, `squeeze(1)` takes it away again.
#
# </details>

# %% [markdown]
# <details><summary>It fails with "you decide before you enlarge"</summary>
#
# In the picture your mask is a heap of squares, one for each cell. A mask of True and False has lost what the soft map knew: how sure each cell is, and therefore on which side of its middle the edge runs.
#
# </details>

# %% [markdown]
# <details><summary>It fails with "you enlarge logits"</summary>
#
# Logits have no bounds. Between a cell of logit 20 and one of -2 the logits pass 0 near the second cell, while the probabilities, 1 and 0.12, pass 0.5 not far from half way. It is a choice, and two good code bases may differ in it. This course's evaluation enlarges probabilities (`shnet_lib/training/evaluate.py`).
#
# </details>

# %% [markdown]
# ## The loss on logits
#
# *Difficulty: medium · 15 minutes · section 3.4: "pixel-level binary cross-entropy"*
#
# With the logit $z$ of a pixel and the truth $y$, 1 or 0:
#
# $$\mathrm{BCE}(z, y) = -\,y \log \sigma(z) - (1 - y) \log(1 - \sigma(z)), \qquad \sigma(z) = \frac{1}{1 + e^{-z}}$$
#
# The formula is right, and as a program it is wrong: $\sigma(18)$ is rounded to 1 in 32 bits, its slope to 0, and $\log(1 - 1)$ is minus infinity. Write the mean over all pixels so that loss and gradient are right for every logit, 300 and -300 among them. PyTorch has this as one function. Write it without.


# %%
def bce(mask_logits: Tensor, target: Tensor) -> Tensor:
    """The mean binary cross-entropy, from logits.

    Args:
        mask_logits: S (B, H, W) float, of any size between -1000 and 1000.
        target: Y (B, H, W) float, 1 in the mask and 0 elsewhere.

    Returns:
        the mean over all pixels, a tensor without axes. Gradients flow through it.
    """
    ### BEGIN SOLUTION: join sigmoid and logarithm, so that no exponential is large
    small = torch.exp(-mask_logits.abs())  # never above 1
    loss = mask_logits.clamp(min=0) - mask_logits * target + torch.log1p(small)
    return loss.mean()
    ### END SOLUTION


# %% tags=["check"]
check("the loss on logits", bce)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Put $\sigma$ into the formula and simplify. $\log \sigma(z) = -\log(1 + e^{-z})$ and $\log(1 - \sigma(z)) = -z - \log(1 + e^{-z})$. What is left has one logarithm, and $y$ stands in one place.
#
# </details>

# %% [markdown]
# <details><summary>Hint 2</summary>
#
# You should have got $\log(1 + e^{z}) - y z$, or $\log(1 + e^{-z}) + (1 - y) z$, which is the same. Now $e^{89}$ is too large for 32 bits. For a positive $z$ write $\log(1 + e^{z}) = z + \log(1 + e^{-z})$, for a negative one leave it. One line for both: $\max(z, 0) + \log(1 + e^{-|z|})$.
#
# </details>

# %% [markdown]
# <details><summary>It fails with "inside your logarithm hides the infinity"</summary>
#
# With $\epsilon$ the loss is finite and still wrong: it stops growing at $-\log \epsilon$, and there its gradient is 0. The worst mistakes teach nothing. No sigmoid may be computed before the logarithm.
#
# </details>

# %% [markdown]
# <details><summary>It fails with "torch.where computes both sides"</summary>
#
# `torch.where` chooses among values that are all computed, and so does its gradient: it multiplies the side that was not taken by 0, and 0 times infinity is NaN. Take the exponential of $-|z|$, which is right on both sides.
#
# </details>

# %% [markdown]
# ## The forward pass
#
# *Difficulty: hard · 20 minutes · Figure 2*
#
# Every part is built. Call them in the order of Figure 2:
#
# 1. Backbone and projections see each *photo* once, and $L$ comes from the words. `image_index` says which photo an expression belongs to. (Who shows the backbone a photo again for each of its expressions gets the same logits and passes the check. It is only more work.)
# 2. SFM joins the three levels and $L$: it gives $f^v_i$ and $f^l_i$ for each level $i$.
# 3. HCAM makes the context $G$ of them.
# 4. ASPP and the up-sampling convolution make logits, and a last bilinear step brings these to the size of the photos, S x S, middles of pixels on middles of pixels.
#
# The check builds a small network of such parts, and gives your function a batch of three expressions and one of a single expression.


# %%
def forward(parts: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Figure 2: photos and phrases -> mask logits.

    Args:
        parts: the network's modules, to be called:
            parts.backbone(images) -> three levels in a list, each (I, C_level, h, w)
            parts.projections[n](level): of level n, (I, C_level, h, w) -> (I, C, H, W)
            parts.word_encoder(words) -> L (B, T, C)
            parts.sfm(visual, word_feats, word_mask), with visual three (B, C, H, W) in a list
                -> f^v three (B, C, H, W), f^l three (B, T, C), and attention weights, unused here
            parts.hcam(visual, words, word_mask), three levels of each -> G (B, C, H, W)
            parts.aspp(context) -> (B, C, H, W)
            parts.upsample(context) -> (B, 1, 4H, 4W)
        batch: "images" (I, 3, S, S); "image_index" (B,), for each expression the number of its
            photo; "words" (B, T); "word_mask" (B, T) bool, True = a real word.

    Returns:
        mask_logits (B, S, S).
    """
    ### BEGIN SOLUTION: one line for each arrow of Figure 2
    image_index, word_mask = batch["image_index"], batch["word_mask"]
    levels = parts.backbone(batch["images"])
    visual = [
        project(level)[image_index]  # (I, C, H, W) -> (B, C, H, W)
        for project, level in zip(parts.projections, levels, strict=True)
    ]
    word_feats = parts.word_encoder(batch["words"])  # L
    visual, words, _ = parts.sfm(visual, word_feats, word_mask)
    context = parts.hcam(visual, words, word_mask)  # G
    logits = parts.upsample(parts.aspp(context))  # (B, 1, 4H, 4W)
    size = batch["images"].shape[-2:]
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=False).squeeze(1)
    ### END SOLUTION


# %% tags=["check"]
check("the forward pass", forward)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# One line for each arrow, and after each line ask for the shape. The one place where I becomes B is before SFM: `x[image_index]` takes for each expression the row of its photo.
#
# </details>

# %% [markdown]
# <details><summary>Hint 2</summary>
#
# `zip(parts.projections, levels)` gives pairs of a projection and its level. SFM gives three things; the third is not needed: `visual, words, _ = parts.sfm(...)`. From there on `words` are three, one for each level, and they replace `word_feats`. The last step is `F.interpolate` as in the second exercise, on logits this time.
#
# </details>

# %% [markdown]
# <details><summary>It fails with "squeeze() takes every axis of length 1"</summary>
#
# (1, 1, S, S) becomes (S, S) then: a batch of a single expression loses its B. Say which axis: `squeeze(1)`.
#
# </details>

# %% [markdown]
# <details><summary>It fails with "HCAM got the words as they were before SFM"</summary>
#
# It runs, since three times $L$ has the right shape. But $f^l_i$ is what the words became after they had looked at the pixels of level $i$.
#
# </details>

# %% [markdown]
# ## What you can do now
#
# You can write what section 3.4 says in one sentence, with the two places in it where an order matters, and the whole network in ten lines. The library's own versions stand in `shnet_lib/model/decoder.py` and, as `SHNet.forward`, in `shnet_lib/model/shnet.py`.
