"""What KenLM's own tools make of six sentences (KenLM 4cb443e, x86-64).

`lmplz -o 3 --discount_fallback`, then `build_binary trie`.
"""

import base64
import gzip

LINES = ["the cat sat", "the dog sat on the mat", "a cat", "the cat ran", "", "wow a dog"]

ARPA = r"""\data\
ngram 1=12
ngram 2=20
ngram 3=16

\1-grams:
-1.4130038	<unk>	0
0	<s>	-0.30103
-0.57899475	</s>	0
-1.0523881	the	-0.30103
-1.0523881	cat	-0.30103
-1.0523881	sat	-0.30103
-1.0523881	dog	-0.30103
-1.1962947	on	-0.30103
-1.1962947	mat	-0.30103
-1.0523881	a	-0.30103
-1.1962947	ran	-0.30103
-1.1962947	wow	-0.30103

\2-grams:
-0.6672556	<s> </s>	0
-0.5250777	cat </s>	0
-0.4181434	sat </s>	0
-0.4181434	dog </s>	0
-0.19940789	mat </s>	0
-0.19940789	ran </s>	0
-0.5311829	<s> the	-0.30103
-0.26414716	on the	-0.30103
-0.6757487	the cat	-0.30103
-0.5311829	a cat	-0.30103
-0.6757487	cat sat	-0.30103
-0.5311829	dog sat	-0.30103
-0.6757487	the dog	-0.30103
-0.5311829	a dog	-0.30103
-0.550031	sat on	-0.30103
-0.70227265	the mat	-0.30103
-0.89397407	<s> a	-0.30103
-0.26414716	wow a	-0.30103
-0.70227265	cat ran	-0.30103
-0.93873036	<s> wow	-0.30103

\3-grams:
-0.18759313	a cat </s>
-0.1605791	cat sat </s>
-0.1605791	a dog </s>
-0.08835823	the mat </s>
-0.08835823	cat ran </s>
-0.112293206	sat on the
-0.35770786	<s> the cat
-0.18898894	<s> a cat
-0.44916967	the cat sat
-0.18898894	the dog sat
-0.5651772	<s> the dog
-0.18898894	wow a dog
-0.19320358	dog sat on
-0.22239743	on the mat
-0.112293206	<s> wow a
-0.456873	the cat ran

\end\
"""

BINARY = gzip.decompress(
    base64.b64decode(
        """
H4sIAAAAAAACA8vNTSxQyMlVyCgpKbDS18/OSE1My0zNSdFLzs/VT85PSVVIyy/KTSxRKEstKs7Mz1Mw5WJAgAZ7ILGfEUj8BwKQCCNUhhlMHrBngoqBMA9UTgRKCyCZxA2lC+oU91q2lTIIZmdfvi
Quzq66osZYyU5bwun+3bBJW/11uXK+f6wtfpC9f2f7c+cHnOXai55KrVG3XnJtq9d535XFq7LkCywcPQ9sd9zVbppTveDppk0M6UFx977D7PG/u2U/yOFIVjPMVpi1D8ZevqVtPzY+E5SvrzATzGeB
KbAUAZvHiqaeG43Pi6afH40vgMYXRNMvxIAKRBiwg4Pbfb/dZrn4hfXEk+IXYMazu+c/gRi8q3fWfwAxRN2bbD6DGLKGIms/gSJKxTkv8S2YESJ5+AmIofNse9oHEMMkEipi4w1V47IIao7vc6jJoQ
uhIrGnoJbGKnKxfgcxUt2gdqUGvz0DVpML014K014LT00wxsb58fd2n/hTdN9Vku3nl5byM+k381T2ea9c/rZTim3C+aBXmdWT3ro96tY4rBD/YeqdX2n2+/eUO71+uc93p96nxCmJE/RfxCnWoYSL
TWleth2DTbEdQyJDcWIJAzBJM9joA7nJQEZJRipDeX45Q1FiHkN+HkNKfjoDAIp7TnwYAwAA
        """
    )
)
