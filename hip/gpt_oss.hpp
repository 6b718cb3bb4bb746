// What every gpt-oss model has in common and its file does not say. Source: openai/gpt-oss, gpt_oss/torch/model.py and
// gpt_oss/tokenizer.py.
#pragma once

namespace gpt_oss {

// YaRN: a pair that turns more often than beta within the initial context keeps its frequency, one that turns less often
// than alpha has it divided by the scaling factor.
constexpr float kYarnBeta = 32.0f, kYarnAlpha = 1.0f;

// Whether a sequence ends with this token: <|endoftext|> or <|return|>.
constexpr bool is_stop_token(int token) { return token == 199999 || token == 200002; }

}  // namespace gpt_oss
