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
# *Section 4.5, Figures 4 to 7 · 37 seconds on two CPU cores*
#
# **You need to know** what an attention map is and which four blocks it has ([03 · SFM](03_sfm.ipynb)), and what IoU means ([07 · Evaluation](07_evaluation.ipynb)).
#
# In this lesson you will
#
# - click on a word or a pixel, and see what it looks at;
# - ask one picture many things;
# - turn what a picture of attention suggests into a number with a control;
# - sort the wrong answers into kinds, and count them;
# - hand the network a photo of your own.

# %% [markdown]
# ## The question
#
# Section 4.5 explains SHNet with pictures: answers beside those of a baseline (Figure 4), answers of its parts (Figure 5), one photo asked several things (Figure 6), and attention (Figure 7). Pictures were chosen by somebody. Do they show what the network does as a rule?
#
# RefShapes knows what is where in each of its scenes, so we can ask that of hundreds of them. We look into the part that is lit.

# %%
from shnet_course.pictures.architecture import draw_architecture
from shnet_course.pictures.base import show

show(draw_architecture({"sfm"}), alt="The whole network, with SFM, section 3.2, coloured.")

# %% [markdown]
# ## One look
#
# Take the trained network and one expression of the validation split. Equation 1 says “MultiHead” and no more. In each head it is this softmax of lesson 03, $d$ being the number of channels of a head:
#
# $$A = \mathrm{softmax}\!\left(\frac{Q K^\top}{\sqrt{d}}\right)$$
#
# Row $n$ of $A$ says what token $n$ takes from all tokens: first the pixels of the grid, row by row, then the words. There is such a map for each level, each layer and each head.

# %%
from shnet_course.measure.attention import attend
from shnet_lib import load_shnet
from shnet_lib.data import read_expressions

trained = load_shnet("../data/weights/shnet_refshapes")
val = read_expressions("../data/refshapes", "refshapes-unc", "val")
example = next(e for e in val if e.text == "stripy cross at the bottom")
(look,) = attend(trained, [example])

# %%
# NBVAL_CHECK_OUTPUT
levels, layers, tokens, _ = look.weights.shape
print("levels, layers, heads:", (levels, layers, trained.config.model.heads))
print(f"{tokens} tokens: {look.grid} x {look.grid} pixels and {look.words}")
print("each row sums to", look.weights.sum(-1).round(3).min(), look.weights.sum(-1).round(3).max())

# %% [markdown]
# `attend` averages the heads. It adds nothing else to what the network computes with `return_attention=True`:

# %%
# NBVAL_CHECK_OUTPUT
import torch

from shnet_lib.data.dataset import collate

data = trained.evaluation_set([example])
with torch.inference_mode():
    _, attention = trained.network(collate([data[(0,)]]), return_attention=True)
by_hand = torch.stack([torch.stack(level).mean(dim=2)[:, 0] for level in attention])
torch.allclose(by_hand, torch.from_numpy(look.weights), atol=1e-5)

# %% [markdown]
# ## Figure 7, again
#
# What does each word look at? Here is level 4, the coarsest, a row a layer. The words' look at pixels is scaled to the sum 1.

# %%
from shnet_course.pictures.base import photo_of
from shnet_course.pictures.lesson_09 import draw_word_word, draw_words_over_pixels

photo, level = photo_of(example), 2  # levels 2, 3, 4 stand at 0, 1, 2
maps = look.words_over_pixels()[level]  # (layers, T, H, W)
show(
    draw_words_over_pixels(photo, look.words, maps, look.probability > 0.5),
    alt=f"The scene with the answer to “{example.text}”, and where each word looks: in the first "
    "layers mostly at the picture's border, in the last at the answer, all five alike.",
)

# %% [markdown]
# Compare the words of one row with each other. Are they different looks, or one? We come back to that with numbers.
#
# And what do words take from words, in the last layer? In per cent of all that a word takes. The rest, here more than 99 %, it takes from the pixels.

# %%
block = look.block("word-word")[level, -1]  # (T, T)
show(
    draw_word_word(look.words, block),
    alt=f"A table of how much each word of “{example.text}” takes from each word: between "
    f"{block.min():.2%} and {block.max():.2%}.",
)

# %% [markdown]
# ## Click
#
# Click on a cell of the scene, or on a word under it: it then asks, and the blue shows what it takes from the pixels, the bars what it takes from the words. Try the cells of the answer, then the empty ground. Compare the first layer with the last.

# %%
from shnet_course.pictures.lesson_03 import draw_token_attention
from shnet_course.token_picker import TokenPicker
from shnet_course.widgets import explore


def ask(token: int, level: int, layer: int):
    weights = look.weights[level - 2, layer - 1, token]
    return draw_token_attention(photo, weights, look.grid, look.words, token)


picker = TokenPicker(photo, look.grid, look.words, value=look.pixels + 1)
told = "What token {token} takes from pixels and words at level {level}, layer {layer}.".format
explore(ask, told, token=picker, level=[4, 3, 2], layer=[*range(layers, 0, -1)])

# %% [markdown]
# ## One scene, many phrases
#
# Figure 6 holds the photo fixed and varies the phrase. A network that only looks for the most striking thing would mark the same each time. Blue outlines what was meant, orange what was marked.

# %%
from shnet_course.measure.failures import judge
from shnet_course.measure.scene_graph import read_scene_graphs
from shnet_course.pictures.lesson_09 import draw_answers

graphs = read_scene_graphs("../data/refshapes", val)
same = [e for e in val if e.image_id == example.image_id][:8]
answers = [
    judge(e, k.probability > 0.5, graphs[e.image_id])
    for e, k in zip(same, attend(trained, same), strict=True)
]
listed = "; ".join(e.text for e in same)
show(draw_answers(answers), alt=f"One scene {len(same)} times, each with its answer: {listed}.")

# %% [markdown]
# ## Figure 5: which part does what?
#
# > “‘Only HCAM’ network does not involve any reasoning, however, it manages to predict the left sandwich with refined boundaries. ‘Only SFM’ network understands the concept […] however, the output mask bleeds around the boundaries” (section 4.5)
#
# That is said of one photo. The course ships three networks that were trained equally, 4,000 steps of the preset `quick` with seed 0: one without SFM, one without HCAM, one with both. They are weaker than the network above, which was trained longer. Here is the first phrase of each of four families.

# %%
from shnet_course.pictures.lesson_09 import draw_by_network
from shnet_lib import predict

parts = {
    name: load_shnet(f"../data/weights/figure_5/{name.replace(' ', '_')}")
    for name in ("only HCAM", "only SFM", "SHNet")
}
first = [
    next(e for e in val if e.family == family)
    for family in ("attribute", "region", "relation", "ordinal")
]
masks = {
    name: [predict(part, e.photo(), e.text).mask for e in first] for name, part in parts.items()
}
listed = "; ".join(e.text for e in first)
show(draw_by_network(first, masks), alt=f"Four phrases answered by three networks: {listed}.")

# %% [markdown]
# Now every third phrase of the split. How many things does each network find (IoU above 0.5), and how well does it outline those that all three find?

# %%
import numpy as np

from shnet_lib.training.evaluate import evaluate

asked = val[::3]
rows = {
    name: evaluate(part.network, part.evaluation_set(asked), batch_size=64).rows
    for name, part in parts.items()
}
iou = {name: np.array([row["iou"] for row in found]) for name, found in rows.items()}
family = np.array([e.family for e in asked])
print("found, %  ", *(f"{name:>10}" for name in parts))
for name in ("attribute", "region", "extreme", "relation", "ordinal"):
    print(f"{name:10}", *(f"{(each[family == name] > 0.5).mean():10.0%}" for each in iou.values()))
by_all = np.all([each > 0.5 for each in iou.values()], axis=0)
print(f"mean IoU of the {by_all.sum()} that all three find")
print(" " * 10, *(f"{each[by_all].mean():10.3f}" for each in iou.values()))

# %% [markdown]
# Half of the quotation holds here: what all three find, the network without HCAM outlines worst. The other half does not show: on phrases that need reasoning, relations and ordinals, “only SFM” is no better than “only HCAM”. Only both together are. One seed each; lesson 08 has these rows with three.

# %% [markdown]
# ## From a picture to a number
#
# In the picture a word seems to look at “its” thing. Compared with what? A large thing gets much from a look that is spread evenly. So divide by what an even look would give: call that the *lift*. By hand, on a grid of 2 x 2:

# %%
# NBVAL_CHECK_OUTPUT
from shnet_course.measure.attention import lifts

attention_map = np.array([[0.5, 0.1], [0.1, 0.3]])  # the sum is 1
cover = np.array([[1.0, 0.0], [0.5, 0.0]])  # of each cell, by the thing: 1.5 cells of 4
got = 1.0 * 0.5 + 0.5 * 0.1
by_hand = got / (1.5 / 4)
print(f"by hand {by_hand:.4f}, the library {lifts(attention_map, cover[None])[0]:.4f}")
assert np.isclose(by_hand, lifts(attention_map, cover[None])[0])

# %%
from shnet_course.pictures.lesson_09 import draw_lift_by_hand

show(
    draw_lift_by_hand(attention_map, cover),
    alt="A 2 x 2 attention map, 0.5 0.1 0.1 0.3, beside a thing that covers 1, 0, 0.5, 0 of it.",
)

# %% [markdown]
# A lift of 1 is an even look, above 1 is a preference. Now all expressions of the validation split. Levels, layers and heads are averaged, so that we cannot choose the one that suits us.

# %%
from shnet_course.measure.attention import measure

measured, answers = [], []
for seen in attend(trained, val):
    graph = graphs[seen.expression.image_id]
    measured.append(measure(seen, graph))
    answers.append(judge(seen.expression, seen.probability > 0.5, graph))

# %%
# NBVAL_CHECK_OUTPUT
print(f"{len(measured)} expressions on {len(graphs)} scenes")

# %% [markdown]
# ## Does a word look at what it means?
#
# > “Additionally, for each word appropriate region in the image is attended.” (section 4.5)
#
# For every word of a phrase: its lift on the thing referred to, less that on *the other things of the same size* in the scene. A word that looks at all of them alike has 0. The interval comes from drawing whole scenes anew, 2,000 times: phrases on one scene are not independent.

# %%
from shnet_course.measure.attention import interval, named_and_others, report, when_named

kinds = ("shape", "colour", "pattern", "size", "place", "function")
lift = {kind: named_and_others(measured, kind) for kind in kinds}
more = {f"{kind} words": named - others for kind, (named, others) in lift.items()}
print(report(more))

# %%
from shnet_course.pictures.lesson_09 import draw_intervals

show(
    draw_intervals(
        {n: interval(s) for n, s in more.items()}, 0, "lift on the meant thing, less others'"
    ),
    alt="A point and a 95 % interval for each kind of word:\n" + report(more),
)

# %% [markdown]
# Two things to read off. First, all intervals lie above 0: words do look at the thing meant. Second, the last row is a control that Figure 7 does not have. “The”, “on” and “from” mean no region at all, and yet they look at the thing nearly as much as “star” does. So most of the look is not the word's own. It is the answer, seen through every word.
#
# A sharper control is the same thing in the same scene, meant by one phrase and not by another. Its size, colour and place are then the same on both sides.

# %%
same_thing = {
    "words look at it": when_named(measured, "words"),
    "empty pixels look at it": when_named(measured, "pixels"),
}
print("lift of a thing when it is meant, less its lift when it is not")
print(report(same_thing))

# %% [markdown]
# So a word's look goes where the phrase points. The second row is the paper's other sentence on Figure 7, “Pixel-pixel interactions highlight image regions corresponding to the referent”, and bears it out. The pixels that ask here are those without any thing on them.
#
# And the word alone, apart from the answer? A phrase says “star” and means one star. Does the word also look at the *other* stars, more than at things of other shapes?

# %%
from shnet_course.measure.attention import namesakes
from shnet_course.pictures.lesson_09 import draw_layers

namesake = namesakes(measured)
print(report({"namesakes less others": namesake}))
tables = {
    "meant, less not meant": same_thing["words look at it"].values.mean(0),
    "namesakes, less others": namesake.values.mean(0),
}
show(
    draw_layers(tables, "difference in lift"),
    alt="The difference in lift, a row a level, a column a layer. "
    + "; ".join(
        f"{name}: {table.astype(float).round(2).tolist()}" for name, table in tables.items()
    ),
)

# %% [markdown]
# On the average it hardly does: 0.08, where being meant is worth 1.42. The tables say where it happens. In the last layer of level 4 words look at namesakes, at levels 2 and 3 rather away from them. A picture of one level and one layer shows one or the other, and which one Figure 7 shows is not said.

# %% [markdown]
# ## Does “left” look left?
#
# Phrases with “left” mostly mean things on the left, so a look at the thing meant *is* a look to the left. The control is the same phrase on the same scene with one word turned round.

# %%
# NBVAL_CHECK_OUTPUT
from shnet_course.measure.attention import turned

for text in ("leftmost star", "second cross from top", "blue heart above white heart"):
    print(f"{text:30} -> {turned(text)}")

# %% [markdown]
# How far does the middle of each look move to the side that its word names? In per cent of the picture's side. “Other words” are those of the same phrase. “Wrong axis” is the side word's movement at right angles; its meaning asks for none. “Answer” is the movement of what is marked.

# %%
from dataclasses import replace

from shnet_course.measure.attention import Sample, side_shifts

sided = [(e, m) for e, m in zip(val, measured, strict=True) if turned(e.text)][::2]  # are enough
other_way = [replace(e, text=turned(e.text)) for e, _ in sided]
opposite = [measure(k, graphs[k.expression.image_id]) for k in attend(trained, other_way)]
straight = [m for _, m in sided]
for across, title in ((True, "left and right"), (False, "top and bottom, above and below")):
    moved = side_shifts(straight, opposite, across)
    print(title)
    print(report({name: Sample(100 * s.values, s.scenes) for name, s in moved.items()}))

# %%
tables = {}
for across, title in ((True, "left / right"), (False, "top / bottom")):
    moved = side_shifts(straight, opposite, across)
    tables[f"“{title}”"] = 100 * moved["side word"].values.mean(0)
    tables[f"its other words, {title}"] = 100 * moved["other words"].values.mean(0)
show(
    draw_layers(tables, "% of the side"),
    alt="How far looks move, a row a level, a column a layer. "
    + "; ".join(f"{name}: {table.round(1).tolist()}" for name, table in tables.items()),
)

# %% [markdown]
# Again the question is whether the *word* does it. In the last layer the other words move nearly as far: the side word has told them, or all of them follow the answer. In the first layer a word knows only those before it, through the LSTM. What is seen there is its own: “left” and “right” do look to their side, by some per cent, but “top” and “bottom” rather to the other.

# %% [markdown]
# ## Which word is listened to?
#
# > “‘squares’ contains the differentiating information and is assigned high importance for different words.” (section 4.5)
#
# In word-word attention, an even share is 1. Which words get more from the others?

# %%
from shnet_course.measure.attention import received_by, telling_word

heard = {f"{kind} words": received_by(measured, kind) for kind in kinds}
show(
    draw_intervals(
        {n: interval(s) for n, s in heard.items()}, 1, "attention from the other words (even: 1)"
    ),
    alt="A point and a 95 % interval for each kind of word:\n" + report(heard),
)
print(report(heard))

# %% [markdown]
# Place words get most, function words least. “Differentiating” can be counted: a shape, colour, size or pattern word rules out the things that it does not fit. Within one phrase, does the word that rules out most get more than the one that rules out fewest? Above 0 the sentence holds for our network, below 0 the opposite does.

# %%
print(report({"most telling less least": telling_word(measured)}))

# %% [markdown]
# It is a little below 0: what Figure 7 shows of “squares” is not the rule in our network.
#
# ## How answers go wrong
#
# The paper's failures are in a supplement. Ours can be sorted without looking, since the masks of everything in the scene are known. `judge` asks in this order:

# %%
# NBVAL_CHECK_OUTPUT
print(judge.__doc__)

# %%
from shnet_course.measure.failures import count_kinds
from shnet_course.pictures.lesson_09 import draw_kinds

table = count_kinds(answers)
for family, counts in table.items():
    print(f"{family:10}", ", ".join(f"{count} {kind}" for kind, count in counts.items() if count))
show(
    draw_kinds(table),
    alt="A bar for each family of expressions, cut by the share of each kind of answer.",
)

# %%
by_kind = [[a for a in answers if a.kind == kind] for kind in table["all"] if kind != "right"]
shown = [group[i] for i in range(3) for group in by_kind if i < len(group)]
listed = "; ".join(f"{a.kind}: {a.expression.text}" for a in shown)
show(draw_answers(shown, columns=5), alt=f"Wrong answers by kind. {listed}.")

# %% [markdown]
# These are the first of each kind, not chosen ones. When another *thing* was marked, was it one like the right one? Against the chance that any other thing of the scene shares the attribute:

# %%
from shnet_course.measure.failures import shared_attributes

for name, (marked, chance) in shared_attributes(answers, graphs).items():
    print(f"same {name:8} {marked:5.0%} of the things marked, by chance {chance:.0%}")

# %% [markdown]
# At most eight answers stand behind these shares (row `all` above): too few for a rule.
#
# ## Your own photo
#
# `predict` takes any file, PIL image or array. Phones store a photo as the sensor saw it and note how to turn it; that note (EXIF) is obeyed. So a scene that is turned, noted as such and saved as a JPEG gets nearly the answer that it had before:

# %%
import tempfile
from pathlib import Path

from PIL import Image

with tempfile.TemporaryDirectory() as folder:
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn me by 90 degrees, clockwise"
    turned_photo = Image.fromarray(photo).transpose(Image.Transpose.ROTATE_90)
    turned_photo.save(Path(folder) / "phone.jpg", quality=90, exif=exif)
    from_phone = predict(trained, Path(folder) / "phone.jpg", example.text).mask
before = predict(trained, photo, example.text).mask
print(f"IoU of the two answers: {(before & from_phone).sum() / (before | from_phone).sum():.2f}")

# %% [markdown]
# Now a real one: the portrait that matplotlib brings along for its examples. Put the path of your own file in its place.

# %%
from matplotlib.cbook import get_sample_data

from shnet_course.answer import describe_answer, draw_answer

with get_sample_data("grace_hopper.jpg") as file:
    portrait = Image.open(file).convert("RGB")
for phrase in ("the white cap", "thing at the top"):
    show(draw_answer(trained, portrait, phrase), alt=describe_answer(trained, portrait, phrase))

# %% [markdown]
# Nothing sensible is to be expected: this network has seen flat shapes in seven colours, and knows fewer than a hundred words. It was never shown a phrase that means nothing in the picture, so it did not learn to refuse; the list of words that it never saw is the only warning. For real photos it has to be trained on real photos; [10 · Train and evaluate](10_train_unc.ipynb) is the notebook for that.

# %% [markdown]
# ## What the paper does not say
#
# Which map does Figure 7 show? Which level, layer and head, it does not say; nor in which direction. “Word-pixel” can be what a word takes from the pixels, or which pixels take from the word. The two need not agree. Here is their correlation over the cells of our example's grid, the mean of its words:

# %%
from shnet_course.measure.attention import agreement

print("a row a level, a column a layer; 1 is the same map, 0 has nothing to do with it")
print(agreement(look).round(2))

# %% [markdown]
# The closest is 0.5, in the last layer of level 4: the direction matters. Besides that, the paper does not say
#
# - *how the examples were chosen*: Figures 4 to 7 come without numbers, and the failures are in a supplement;
# - *what attention is compared with*: without “the”, and without the same thing not meant, a bright spot on the answer says little of the word above it;
# - *whether attention explains the answer*: a weight says what was mixed in, not what difference it made. Lesson 08 takes parts away and trains again, which is the stronger test.

# %% [markdown]
# ## What you have seen
#
# - A click shows what a word or a pixel looks at, in each of the four blocks, by level and layer.
# - One picture gets another answer for each phrase.
# - A lift with a control, over all scenes of a split and with an interval, says what a picture only suggests.
# - Wrong answers come in kinds; which kind depends on the family of the phrase.
# - Any photo can be read, but only what was trained for can be understood; next is the run itself: [10 · Train and evaluate](10_train_unc.ipynb).
#
# Practise: [the exercises of this lesson](../exercises/09_looking_inside_ex.ipynb).
