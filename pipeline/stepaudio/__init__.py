"""The Step-Audio-EditX model: three stages, their weights and features.

Letters in shape comments: B batch, T time frames or rows, M mel bins, C channels, D model width, H
attention heads, G key/value groups, L samples, S slots, V vocabulary.
"""
