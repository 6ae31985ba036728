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
# # 09 · Looking inside
#
# *Section 4.5, Figures 4 to 7 · 40 minutes to read, 2 minutes to run on two CPU cores*
#
# **You need to know** the four blocks of an attention map ([03 · SFM](03_sfm.ipynb)), HCAM's gates ([04 · HCAM](04_hcam.ipynb)), and IoU ([07 · Evaluation](07_evaluation.ipynb)).
#
# In this lesson you will
#
# - click on a word or a pixel, and see what it looks at;
# - write three small functions that turn such a picture into a number with a control and an interval;
# - close paths inside the trained network, and measure what its answers lose;
# - decide which sentences of section 4.5 hold for this network;
# - sort the wrong answers into kinds, and look into one answer on a photograph.

# %% [markdown]
# ## The question
#
# Section 4.5 explains SHNet with pictures: answers beside a baseline's (Figure 4), answers of its parts (Figure 5), one photo with several phrases (Figure 6), and attention (Figure 7). Somebody chose them. Do they show the rule?
#
# RefShapes stores what is where, so we can ask hundreds of scenes. We look into the two parts that are lit.

# %%
from shnet_course.pictures.architecture import draw_architecture
from shnet_course.pictures.base import show

show(draw_architecture({"sfm", "hcam"}))

# %% [markdown]
# ## One look
#
# Row $n$ of an attention map $A = \mathrm{softmax}(Q K^\top / \sqrt{d})$ says what token $n$ takes from all tokens. The tokens are the pixels, row by row, and then the words. There is one map per level, layer and head; `attend` averages the heads.

# %% tags=["nbval-check-output"]
from shnet_course.measure.attention import attend
from shnet_lib import load_shnet
from shnet_lib.data import read_expressions

trained = load_shnet("../data/weights/shnet_refshapes")
val = read_expressions("../data/refshapes", "refshapes-unc", "val")
example = next(e for e in val if e.text == "stripy cross at the bottom")
(look,) = attend(trained, [example])

levels, layers, tokens, _ = look.weights.shape
print("levels, layers, heads:", (levels, layers, trained.config.model.heads))
print(f"{tokens} tokens: {look.grid} x {look.grid} pixels and {look.words}")
print("each row sums to", look.weights.sum(-1).round(3).min(), look.weights.sum(-1).round(3).max())

# %% [markdown]
# ## Figure 7, again
#
# What does each word look at? **Predict:** the phrase has five words. Will “cross” look at the cross, “bottom” at the bottom, and “the” at nothing in particular?
#
# The maps are those of level 4, the coarsest, in the last layer. White is an even look, blue is more, and orange is less.

# %%
from shnet_course.pictures.base import photo_of
from shnet_course.pictures.lesson_09 import draw_words_over_pixels

scene, level = photo_of(example), 2  # levels 2, 3, 4 stand at 0, 1, 2
maps = look.words_over_pixels()[level, -1]  # (T, H, W)
show(draw_words_over_pixels(scene, look.words, maps, look.probability > 0.5))

# %% [markdown]
# All five words look at the answer, and “the” does it as much as “cross” does. The five maps are one look, seen five times. Figure 7 shows no word like “the”.
#
# Click on a cell of the scene, or on a word under it. Blue is what that token takes from the pixels, bars what it takes from the words. Compare the first layer with the last one.

# %%
from shnet_course.pictures.lesson_09 import draw_look
from shnet_course.token_picker import TokenPicker
from shnet_course.widgets import explore


def ask(token: int, level: int, layer: int):
    return draw_look(scene, look.weights[level - 2, layer - 1, token], look.grid, look.words, token)


picker = TokenPicker(scene, look.grid, look.words, value=look.pixels + 1)
explore(ask, token=picker, level=[4, 3, 2], layer=[*range(layers, 0, -1)])

# %% [markdown]
# **Now you:** [Where each word looks](../exercises/09_looking_inside_ex.ipynb).
#
# ## One scene, many phrases
#
# Figure 6 varies the phrase on one photo. A network that looks for the most striking thing would always mark the same. Blue outlines what was meant, orange what was marked.

# %%
from shnet_course.measure.failures import sort_answer
from shnet_course.measure.scene_graph import read_scene_graphs
from shnet_course.pictures.lesson_09 import draw_judged

graphs = read_scene_graphs("../data/refshapes", val)
same = [e for e in val if e.image_id == example.image_id][:6]
answers = [
    sort_answer(look.expression, look.probability > 0.5, graphs[example.image_id])
    for look in attend(trained, same)
]
show(draw_judged(answers))

# %% [markdown]
# ## From a picture to a number
#
# A large thing gets much attention even from a look that is spread evenly. So we divide by what an even look would give, and call the result the *lift*: 1 is an even look, and above 1 is a preference. On a grid of 2 × 2:

# %%
import numpy as np

from shnet_course.pictures.lesson_09 import draw_lift_by_hand

attention_map = np.array([[0.5, 0.1], [0.1, 0.3]])  # the sum is 1
cover = np.array([[1.0, 0.0], [0.5, 0.0]])  # the thing covers 1.5 cells of 4


def lift(attention_map, cover):
    """How much of a map (H, W), whose sum is 1, falls on a thing, for the thing's size."""
    return (attention_map * cover).sum() / cover.mean()


show(draw_lift_by_hand(attention_map, cover))
print("by hand ", (1.0 * 0.5 + 0.5 * 0.1) / (1.5 / 4))
print("function", lift(attention_map, cover))

# %% [markdown]
# A preference for the right thing proves little: perhaps words prefer that thing whatever the phrase says. A *paired difference* compares two sides that have everything else in common. The *bootstrap* then says how far the result depends on the scenes: it draws whole scenes again and again, with replacement.

# %%
from collections import defaultdict


def paired_difference(rows, pair, side):
    """Mean value where `side` holds minus mean value where it does not, for each full pair."""
    found = defaultdict(lambda: ([], []))
    for row in rows:
        found[row["scene"], pair(row)][side(row)].append(row["value"])
    full = {key: (no, yes) for key, (no, yes) in found.items() if no and yes}
    differences = [np.mean(yes) - np.mean(no) for no, yes in full.values()]
    return np.array(differences), [scene for scene, _ in full]


def bootstrap(values, scenes, draws=2000):
    """The mean, and where 95 % of the means lie when whole scenes are drawn again."""
    _, scene = np.unique(scenes, return_inverse=True)
    sums, counts = np.bincount(scene, values), np.bincount(scene)
    drawn = np.random.default_rng(0).integers(len(sums), size=(draws, len(sums)))
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    return (np.mean(values), *np.quantile(means, (0.025, 0.975)))


# %% [markdown]
# Known data first: a thing with a lift of 3 when meant and 2 when not, and a second thing without a pair:

# %% tags=["nbval-check-output"]
from shnet_course.measure.attention import BLOCKS, kind_of_word, received, rules_out, shrink_to_grid

invented = [
    {"scene": 1, "thing": "star", "meant": True, "value": 3.0},
    {"scene": 1, "thing": "star", "meant": False, "value": 2.0},
    {"scene": 2, "thing": "ring", "meant": True, "value": 9.0},
]
print(paired_difference(invented, lambda r: r["thing"], lambda r: r["meant"]))

once = bootstrap(np.arange(50.0), range(50))
often = bootstrap(np.repeat(np.arange(50.0), 10), np.repeat(range(50), 10))
print("the same ten times makes nothing surer:", np.allclose(once, often))

# %% [markdown]
# Now all 1,504 expressions of the validation split, on 250 scenes. Levels, layers and heads are averaged, so that we cannot choose the map that suits us. One row is one look at one thing.

# %%
rows, heard, taken, answers = [], [], {block: [] for block in BLOCKS}, []
for look in attend(trained, val):
    graph, phrase = graphs[look.expression.image_id], look.expression
    things, target = graph.scene.things, graph.target(phrase)
    base = {"scene": phrase.image_id, "phrase": phrase.sent_id}
    covers = shrink_to_grid(graph.masks[: len(things)], look.grid)  # (things, H, W)
    ground = look.pixels_over_pixels((1 - covers.sum(0)).clip(0)).mean((0, 1))
    words = list(zip(look.words, look.words_over_pixels().mean((0, 1)), strict=True))
    for place, (word, plane) in enumerate([*words, ("empty pixels", ground)]):
        kind = kind_of_word(word) if place < len(words) else word
        for n, cover in enumerate(covers):
            row = {"place": place, "kind": kind, "thing": n, "meant": n == target}
            row["same size"] = target < len(things) and things[n].size == things[target].size
            rows.append(base | row | {"value": lift(plane, cover)})
    for word, share in zip(look.words, received(look.block("word-word")).mean((0, 1)), strict=True):
        heard.append(base | {"rules out": rules_out(word, things), "value": share})
    for block in BLOCKS:
        taken[block].append(look.block(block).sum(-1).mean((0, 2)))  # (layers,)
    answers.append(sort_answer(phrase, look.probability > 0.5, graph))

# %% [markdown]
# ## Measure 1: does a word look at what it means?
#
# > “Additionally, for each word appropriate region in the image is attended.” (section 4.5)
#
# For each word we take its lift on the thing that is meant, minus its lift on the *other things of the same size*. A word that looks at all of them alike gets 0. **Predict:** which kind of word has the greatest difference, and what do function words (“the”, “on”, “from”) have?

# %%
from shnet_course.pictures.lesson_09 import draw_intervals

more = {}
for kind in ("shape", "colour", "pattern", "size", "place", "function"):
    of_kind = [row for row in rows if row["kind"] == kind and row["same size"]]
    pairs = paired_difference(of_kind, lambda r: (r["phrase"], r["place"]), lambda r: r["meant"])
    more[f"{kind} words"] = bootstrap(*pairs)
show(draw_intervals(more, 0, "lift on the meant thing minus lift on others of its size"))

# %% [markdown]
# All intervals lie above 0: words do look at the thing that is meant. The last row is the control. A function word means no region, and it too looks at the thing. So most of the look belongs to the answer, not to the word.
#
# **Now you:** [A claim needs a control](../exercises/09_looking_inside_ex.ipynb).

# %% [markdown]
# ## Measure 2: the same thing, meant or not
#
# > “Pixel-pixel interactions highlight image regions corresponding to the referent.” (section 4.5)
#
# A sharper control is one thing, meant by one phrase and not by another: its size, colour and place are the same on both sides. We ask this of the words, and of those pixels that have no thing on them.

# %%
asking = {
    "words": [row for row in rows if row["kind"] != "empty pixels"],
    "empty pixels": [row for row in rows if row["kind"] == "empty pixels"],
}
meant = {
    f"{who} look at it": bootstrap(
        *paired_difference(of_these, lambda r: r["thing"], lambda r: r["meant"])
    )
    for who, of_these in asking.items()
}
show(draw_intervals(meant, 0, "a thing's lift when it is meant minus its lift when it is not"))

# %% [markdown]
# The sentence holds: the phrase moves the look to the thing that is meant.
#
# ## Measure 3: which word is listened to?
#
# > “‘squares’ contains the differentiating information and is assigned high importance for different words.” (section 4.5)
#
# “Differentiating” can be counted: a word for shape, colour, size or pattern rules out what it does not fit. Within one phrase, does the word that rules out most get more word-word attention than the word that rules out fewest? An even share is 1; a difference above 0 supports the sentence.

# %%
by_phrase = defaultdict(set)
for row in heard:
    by_phrase[row["phrase"]] |= {row["rules out"]} - {None}
telling = [
    row | {"most": row["rules out"] == max(by_phrase[row["phrase"]])}
    for row in heard
    if len(by_phrase[row["phrase"]]) > 1
    and row["rules out"] in (min(by_phrase[row["phrase"]]), max(by_phrase[row["phrase"]]))
]
pairs = paired_difference(telling, lambda r: r["phrase"], lambda r: r["most"])
mean, low, high = bootstrap(*pairs)
print(f"most telling minus least telling word: {mean:.2f}, 95 % interval {low:.2f} to {high:.2f}")
for block in ("pixel-word", "word-word"):
    shares = ", ".join(f"{share:.1%}" for share in np.mean(taken[block], 0))
    print(f"of all attention, {block}, layers 1 to 3: {shares}")

# %% [markdown]
# The difference is small and below 0. What Figure 7 shows of “squares” is not the rule here. But words do get much attention: in layer 1 about half of all that pixels and words give, where an even look would give them 2 %.
#
# ## Measure 4: causes
#
# A weight says what was mixed in, not what difference that made. For this we have to interfere: train a network without a part, or close a path in the trained one.
#
# ### Figure 5: which part does what?
#
# > “‘Only HCAM’ network does not involve any reasoning, however, it manages to predict the left sandwich with refined boundaries. ‘Only SFM’ network understands the concept […] however, the output mask bleeds around the boundaries” (section 4.5)
#
# That is said of one photo. The course ships three networks, trained equally, 4,000 steps each. We put every third phrase of the split to them. How many things does each one find (IoU above 0.5)?

# %%
from shnet_lib.training.evaluate import evaluate

names = {"only HCAM": "only_HCAM", "only SFM": "only_SFM", "SHNet": "SHNet"}
parts = {name: load_shnet(f"../data/weights/figure_5/{folder}") for name, folder in names.items()}
third = val[::3]
iou = {
    name: np.array([row["iou"] for row in evaluate(part.network, part.evaluation_set(third)).rows])
    for name, part in parts.items()
}
family = np.array([e.family for e in third])
families = ("region", "attribute", "extreme", "relation", "ordinal", "negation")
print("found, % ", *(f"{name:>10}" for name in parts))
for name in families:
    print(f"{name:9}", *(f"{(each[family == name] > 0.5).mean():10.0%}" for each in iou.values()))

# %% [markdown]
# How well does each outline the things that all three find? The mean IoU minus SHNet's:

# %%
by_all = np.all([each > 0.5 for each in iou.values()], axis=0)
places = [e.image_id for e, found in zip(third, by_all, strict=True) if found]
print(f"mean IoU minus SHNet's, on the {by_all.sum()} things that all three find")
for name in ("only HCAM", "only SFM"):
    mean, low, high = bootstrap((iou[name] - iou["SHNet"])[by_all], places)
    print(f"{name:9} {mean:+.3f}, 95 % interval {low:+.3f} to {high:+.3f}")

# %% [markdown]
# Pictures, chosen by a rule: in each of three families, the phrase on which the networks differ most.

# %%
from shnet_course.pictures.lesson_09 import draw_by_network
from shnet_lib import predict

spread = np.ptp(list(iou.values()), axis=0)
chosen = [
    third[max(np.flatnonzero(family == name), key=lambda n: spread[n])]
    for name in ("attribute", "relation", "ordinal")
]
masks = {
    name: [predict(part, e.photo(), e.text).mask for e in chosen] for name, part in parts.items()
}
show(draw_by_network(chosen, masks))

# %% [markdown]
# Half of the quotation holds. What all three find, the network without HCAM outlines worst. The other does not: on relations and ordinals, “only SFM” finds as little as “only HCAM”. Both together find more. Lesson 08 has three seeds.
#
# ### Closing a path
#
# The second way closes one of the four blocks of attention. The scores in that block become $-\infty$ before the softmax, and what is left sums to 1 again. In a toy with four pixels and two words, dark cells are closed:

# %%
import torch

from shnet_course.measure.knock_out import block_mask
from shnet_course.pictures.lesson_09 import draw_blocked_pairs

show(draw_blocked_pairs({block: block_mask(block, 4, 6).numpy() for block in BLOCKS}, pixels=4))

scores = torch.tensor([2.0, 0.0, 0.0, 0.0, 3.0, 1.0])  # of one pixel, for four pixels and two words
allowed = block_mask("pixel-word", 4, 6)[0]
print("open  ", scores.softmax(-1).numpy().round(2))
print("closed", scores.masked_fill(~allowed, float("-inf")).softmax(-1).numpy().round(2))

# %% [markdown]
# HCAM's gates can be held too: at 0 nothing flows between the levels, at 1 everything does.
#
# First test the tool. The words reach the mask on two paths only: through pixel-word attention, and through HCAM's gates. **Predict:** what happens if both are closed?

# %% tags=["nbval-check-output"]
from shnet_course.measure.knock_out import answer, closed, gates_at, prepare

batches = prepare(trained, same)  # six phrases on one scene
heard_all = answer(trained.network, batches)
with closed(trained.network, "pixel-word"), gates_at(trained.network, 0.5):
    deaf = answer(trained.network, batches)
print("six phrases, logits differ:", (heard_all - heard_all[0]).abs().max().item() > 1)
print("both paths closed, still:  ", (deaf - deaf[0]).abs().max().item() > 1e-3)

# %% [markdown]
# The network is deaf: six phrases get one answer. There is no third path, and the tool closes what it says.
#
# Now 40 phrases of each family. A loss is a paired difference: the same phrase with the path open, minus closed. **Predict:** which block matters most, and in which layer? Words take half of their attention in layer 1 from words. Does closing that block cost half?

# %%
from shnet_course.measure.knock_out import measure_iou

asked = []
for name in families:
    of_family = [e for e in val if e.family == name]
    asked += of_family[:: len(of_family) // 40][:40]
network, batches = trained.network, prepare(trained, asked)
whole = measure_iou(network, batches)

lost = {}
for block in BLOCKS:
    for layers in ([1], [2], [3], [1, 2, 3]):
        with closed(network, block, layers):
            lost[block, len(layers), layers[-1]] = whole - measure_iou(network, batches)
for value in (0, 0.5, 1):
    with gates_at(network, value):
        lost["gates", value] = whole - measure_iou(network, batches)
print(f"{len(asked)} phrases, mean IoU of the whole network {whole.mean():.3f}")

# %%
from shnet_course.pictures.lesson_09 import draw_losses

scenes = np.array([e.image_id for e in asked])
columns = {"layer 1": (1, 1), "layer 2": (1, 2), "layer 3": (1, 3), "all three": (3, 3)}
by_layer = {
    block: {name: bootstrap(lost[block, *key], scenes) for name, key in columns.items()}
    for block in BLOCKS
}
show(draw_losses(by_layer, "mean IoU lost, with its 95 % interval, when a block is closed"))

# %% [markdown]
# Nearly everything hangs on pixel-word attention in layer 1: there the pixels hear the phrase, and never again. Pixel-pixel attention carries it on, in layers 1 and 3. Word-word attention takes half of the look in layer 1, and closing it costs 0.01. So does word-pixel attention, whose maps look so telling above.
#
# By family of phrases, with a block closed in all layers, or with the gates held:

# %%
family = np.array([e.family for e in asked])
runs = {f"{block}": (block, 3, 3) for block in BLOCKS} | {
    f"gates at {name}": ("gates", value) for name, value in (("0", 0), ("½", 0.5), ("1", 1))
}
by_family = {
    run: {name: bootstrap(lost[key][family == name], scenes[family == name]) for name in families}
    for run, key in runs.items()
}
show(draw_losses(by_family, "mean IoU lost, with its 95 % interval"))

# %% [markdown]
# The gates matter for everything but regions. Held at ½, they say nothing of the phrase, and ordinals lose most. What holds of section 4.5?
#
# | sentence | seen (1 to 3) | causes (4) |
# |---|---|---|
# | pixel-pixel interactions highlight the referent | yes | yes: without them 0.54 is lost |
# | each word attends its region | the answer, not the word's own | no: 0.01 is lost |
# | the differentiating word gets high importance | no | no: 0.01 is lost |
# | HCAM refines boundaries | yes (Figure 5) | – |
# | SFM reasons | only together with HCAM | – |
#
# The network never met a closed path. So a large loss can overstate the path, and a small loss is the safer finding. Words need little attention among each other, because the LSTM has let each word hear those before it.
#
# ## How answers go wrong
#
# Figure 4 shows right answers beside a baseline's; the paper's failures are in a supplement. Ours can be sorted, because all masks are known. An answer is *right* from an IoU of 0.7 on. If not, it is another thing, several, a poor outline, nothing, or in between. Below stand the first six wrong answers.

# %%
from shnet_course.measure.failures import count_kinds
from shnet_course.pictures.lesson_09 import draw_kinds

table = count_kinds(answers)
show(draw_kinds(table))
show(draw_judged([found for found in answers if found.kind != "right"][:6]))

# %% [markdown]
# The network fails rarely, and mostly on phrases that count. **Now you:** [The failing family, What kind of failure?](../exercises/09_looking_inside_ex.ipynb)
#
# ## A photograph
#
# Lesson 00's network for photos gets “black and white thing at the bottom right” right here. **Predict:** which words look at the helmet? Which words, if closed, cost the answer?

# %%
from pathlib import Path

from refgen.own_example import write_own_example

write_own_example(Path("../runs/own_example"))  # masks and phrases of ours, on packages' photos
own = read_expressions("../runs/own_example", "own", "train")
helmet = next(e for e in own if e.text == "black and white thing at the bottom right")

of_photos = load_shnet("../data/weights/shnet_photos")
(look,) = attend(of_photos, [helmet])
maps = look.words_over_pixels()[level, -1]
show(draw_words_over_pixels(photo_of(helmet), look.words, maps, look.probability > 0.5))

# %% [markdown]
# Half of the words look at the helmet, “right” most of all. Now close one word at a time: where `word_mask` is False, nothing behind the LSTM reads the word. Then change a word.

# %%
from shnet_course.answer import draw_answers

(batch,) = prepare(of_photos, [helmet])
print(f"all words open: IoU {measure_iou(of_photos.network, [batch])[0]:.2f}")
shares = look.block("pixel-word").mean((0, 1, 2))  # (T,)
for t, (word, share) in enumerate(zip(look.words, shares, strict=True)):
    word_mask = batch["word_mask"].clone()
    word_mask[0, t] = False
    (left,) = measure_iou(of_photos.network, [batch | {"word_mask": word_mask}])
    print(f"“{word}” has {share:5.1%} of the pixels' attention; closed, IoU {left:.2f}")

changed = "mug at the bottom right", "black and white thing", "black and white thing on the left"
show(draw_answers(of_photos, [(photo_of(helmet), phrase) for phrase in changed]))

# %% [markdown]
# The place carries the answer: closing the colours costs nothing, and a mug, a word that was never trained, is found there too. The colours alone mark a second black thing, the collar. “Bottom” has twice the attention of “right”, and only “right” is missed when it is closed. Weights and causes differ here as well. But one photo shows what can happen, not how often; lesson 07 counts 32 phrases.
#
# ## What the paper does not say
#
# - *Which map Figure 7 shows.* It names no level, layer, head or direction: “word-pixel” can be what a word takes from the pixels, or the reverse.
# - *How the examples were chosen.* Figures 4 to 7 come without numbers.
#
# Section 4.4's ablations are a stronger causal test than ours: they train without the part (lesson 08).
#
# ## Five questions
#
# 1. Why is a lift better than the plain sum of the attention on a thing?
# 2. What does the row “function words” in measure 1 tell you?
# 3. Why does the bootstrap draw scenes and not phrases?
# 4. Word-pixel attention in the last layer can reach the mask only through one part. Which one?
# 5. A closed path costs nothing. Could one train without it?
#
# <details><summary>Answers</summary>
#
# 1. A large thing gets much even from an even look. The lift divides by that.
# 2. Words that mean no region look at the answer too. So the look is the answer's more than the word's.
# 3. Phrases on one scene succeed and fail together. The interval would be too narrow.
# 4. HCAM's gates: after the last layer the words are read nowhere else.
# 5. No. A network may need the path while it learns. Only training again tells, as in lesson 08.
#
# </details>

# %% [markdown]
# ## What you have seen
#
# - A click showed what a word or a pixel looks at, by level and layer.
# - Lift, paired difference and bootstrap gave numbers, and a control took the meaning out of a fine picture.
# - Closed paths told causes from company.
# - Of five sentences of section 4.5, two held, two did not, and one held in part.
# - Wrong answers came in kinds, by family of phrases. On a photograph a right answer hung on the place and not on the colours.
#
# Practise: [the exercises of this lesson](../exercises/09_looking_inside_ex.ipynb).
#
# Next: [10 · Train and evaluate](10_train_unc.ipynb). What other networks changed: [after SHNet](../docs/after_shnet.md).
